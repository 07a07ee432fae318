package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/workflow"
	"github.com/go-resty/resty/v2"

	"reefknot.interop/bank/pb/bank"
)

// httpClient is dtmcli, over HTTP or JSON-RPC.
type httpClient struct {
	server, protocol, business string
}

func (h *httpClient) URL(operation string) string { return h.business + "/bank/" + operation }

func (h *httpClient) NewGid() string { return dtmcli.MustGenGid(h.server) }

func (h *httpClient) Saga(c *aCase, wanted sagaOptions) error {
	saga := dtmcli.NewSaga(h.server, c.gid)
	saga.Protocol = h.protocol
	saga.WaitResult = wanted.wait
	for _, transfer := range c.both() {
		saga.Add(h.URL("action"), h.URL("compensate"), transfer)
	}
	if wanted.concurrent {
		saga.SetConcurrent()
	}
	for branch, before := range wanted.orders {
		saga.AddBranchOrder(branch, before)
	}
	return saga.Submit()
}

func (h *httpClient) message(c *aCase) *dtmcli.Msg {
	message := dtmcli.NewMsg(h.server, c.gid)
	message.Protocol = h.protocol
	message.TimeoutToFail = c.timeout
	if c.topic != "" {
		return message.AddTopic(c.topic, c.taker)
	}
	return message.Add(h.URL("action"), c.taker)
}

func (h *httpClient) Msg(c *aCase, query string, work func(*dtmcli.BranchBarrier) error) error {
	return h.message(c).DoAndSubmit(query, work)
}

func (h *httpClient) MsgDB(c *aCase, query string, db *sql.DB, work dtmcli.BarrierBusiFunc) error {
	return h.message(c).DoAndSubmitDB(query, db, work)
}

// Topic sends what users send themselves: the client has no call for it.
func (h *httpClient) Topic(verb, topic, address string) error {
	request := dtmcli.GetRestyClient().R()
	var response *resty.Response
	var err error
	if verb == "delete" {
		response, err = request.Delete(h.server + "/topic/" + url.PathEscape(topic))
	} else {
		request.SetQueryParams(map[string]string{"topic": topic, "url": address, "remark": "of the test"})
		response, err = request.Get(h.server + "/" + verb)
	}
	if err != nil {
		return err
	}
	return dtmcli.HTTPResp2DtmError(response)
}

func (h *httpClient) Tcc(c *aCase, try, confirm, cancel string) error {
	options := func(tcc *dtmcli.Tcc) { tcc.TimeoutToFail, tcc.Protocol = c.timeout, h.protocol }
	return dtmcli.TccGlobalTransaction2(h.server, c.gid, options, func(tcc *dtmcli.Tcc) (*resty.Response, error) {
		if response, err := tcc.CallBranch(c.giver, h.URL("try"), h.URL("confirm"), h.URL("cancel")); err != nil {
			return response, err
		}
		c.bank.dieAt("in_between", c.gid)
		return tcc.CallBranch(c.taker, h.URL(try), h.URL(confirm), h.URL(cancel))
	})
}

func (h *httpClient) Xa(c *aCase) error {
	options := func(xa *dtmcli.Xa) { xa.TimeoutToFail = c.timeout }
	return dtmcli.XaGlobalTransaction2(h.server, c.gid, options, func(xa *dtmcli.Xa) (*resty.Response, error) {
		if response, err := xa.CallBranch(c.giver, h.URL("xa_"+c.giver.Store)); err != nil {
			return response, err
		}
		c.bank.dieAt("in_between", c.gid)
		return xa.CallBranch(c.taker, h.URL("xa_"+c.taker.Store))
	})
}

// workflowsOverHTTP registers the workflows; the server resumes them at the bank's own address.
func (b *Bank) workflowsOverHTTP(server, business string) error {
	workflow.InitHTTP(server, business+"/workflow")
	return b.register(func(wf *workflow.Workflow, operation string, transfer *bank.Transfer) error {
		_, err := wf.NewRequest().SetBody(transfer).Post(business + "/bank/" + operation)
		return err
	})
}

func incomingByHTTP(r *http.Request) (*Incoming, error) {
	query := r.URL.Query()
	barrier, err := dtmcli.BarrierFromQuery(query)
	if err != nil {
		return nil, err
	}
	incoming := &Incoming{BranchBarrier: barrier, Transfer: &bank.Transfer{}}
	err = json.NewDecoder(r.Body).Decode(incoming.Transfer)
	if err != nil && !errors.Is(err, io.EOF) { // the second phase of XA and a query have no body
		return nil, err
	}
	incoming.XaLocal = func(conf dtmcli.DBConf, work func(db *sql.DB) error) error {
		return dtmcli.XaLocalTransaction(query, conf, func(db *sql.DB, _ *dtmcli.Xa) error { return work(db) })
	}
	incoming.Nested = func(transfer *bank.Transfer) error {
		tcc, err := dtmcli.TccFromQuery(query)
		if err != nil {
			return err
		}
		address := "http://" + r.Host + "/bank/"
		_, err = tcc.CallBranch(transfer, address+"try", address+"confirm", address+"cancel")
		return err
	}
	return incoming, nil
}

// serveHTTP answers branch calls, resumes workflows, and runs cases for the test.
func serveHTTP(listener net.Listener, b *Bank) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/bank/", func(w http.ResponseWriter, r *http.Request) {
		incoming, err := incomingByHTTP(r)
		if err == nil {
			err = b.serve(strings.TrimPrefix(r.URL.Path, "/bank/"), incoming)
		}
		answer(w, dtmcli.MapSuccess, err)
	})
	mux.HandleFunc("/workflow", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = workflow.ExecuteByQS(r.URL.Query(), data)
		}
		answer(w, dtmcli.MapSuccess, err)
	})
	mux.HandleFunc("/run", func(w http.ResponseWriter, r *http.Request) {
		gid, result, err := b.runCase(r.URL.Query())
		said := ""
		if err != nil {
			said = err.Error()
		}
		answer(w, map[string]string{"gid": gid, "result": result, "error": said}, nil)
	})
	return http.Serve(listener, mux)
}

func answer(w http.ResponseWriter, good any, err error) {
	if err != nil {
		good = err
	}
	status, body := dtmcli.Result2HttpJSON(good)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The caller may be gone; it asks again then.
	_ = json.NewEncoder(w).Encode(body)
}
