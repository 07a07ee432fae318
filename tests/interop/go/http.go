package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"reefknot.interop/bank/pb/bank"
)

// httpServer is the server's HTTP API.
type httpServer struct {
	base, business string
}

func (s *httpServer) URL(operation string) string { return s.business + "/bank/" + operation }

func (s *httpServer) WorkflowURL() string { return s.business + "/workflow" }

func (s *httpServer) Encode(transfer *bank.Transfer) []byte {
	text, err := json.Marshal(transfer)
	if err != nil {
		panic(err)
	}
	return text
}

func (s *httpServer) NewGid() (string, error) {
	var reply struct{ Gid string }
	err := s.ask(http.MethodGet, "newGid", nil, &reply)
	return reply.Gid, err
}

func (s *httpServer) Send(verb string, transaction *Transaction) error {
	return s.ask(http.MethodPost, verb, fields(transaction), nil)
}

func (s *httpServer) RegisterBranch(branch Branch, more map[string]string, payload []byte) error {
	body := map[string]string{
		"gid": branch.Gid, "trans_type": branch.Mode, "branch_id": branch.ID, "op": branch.Op, "data": string(payload),
	}
	for name, value := range more {
		body[name] = value
	}
	return s.ask(http.MethodPost, "registerBranch", body, nil)
}

func (s *httpServer) PrepareWorkflow(transaction *Transaction) (*Progress, error) {
	var reply struct {
		Transaction struct {
			Status string
			Reason string `json:"rollback_reason"`
			Result string
		}
		Progresses []struct {
			Status   string
			BranchID string `json:"branch_id"`
			Op       string
			Data     []byte `json:"bin_data"`
		}
	}
	if err := s.ask(http.MethodPost, "prepareWorkflow", fields(transaction), &reply); err != nil {
		return nil, err
	}
	known := reply.Transaction
	progress := &Progress{Status: known.Status, Reason: known.Reason, Result: known.Result}
	for _, one := range reply.Progresses {
		progress.Steps = append(progress.Steps, Step{one.BranchID, one.Op, one.Status, one.Data})
	}
	return progress, nil
}

func (s *httpServer) Topic(verb, topic, address string) error {
	if verb == "delete" {
		return s.ask(http.MethodDelete, "topic/"+url.PathEscape(topic), nil, nil)
	}
	query := url.Values{"topic": {topic}, "url": {address}, "remark": {"of the test"}}
	return s.ask(http.MethodGet, verb+"?"+query.Encode(), nil, nil)
}

func (s *httpServer) Call(address string, branch Branch, phase2URL string, transfer *bank.Transfer) error {
	query := s.query(branch)
	if phase2URL != "" {
		query.Set("phase2_url", phase2URL)
	}
	body := bytes.NewReader(s.Encode(transfer))
	return outcome(http.Post(address+"?"+query.Encode(), "application/json", body))
}

func (s *httpServer) Query(address string, branch Branch) error {
	return outcome(http.Get(address + "?" + s.query(branch).Encode()))
}

func (s *httpServer) query(branch Branch) url.Values {
	return url.Values{
		"dtm": {s.base}, "gid": {branch.Gid}, "trans_type": {branch.Mode}, "branch_id": {branch.ID}, "op": {branch.Op},
	}
}

// ask sends a request to the server; its reply is good if it is 200 and says nothing of a FAILURE.
func (s *httpServer) ask(method, path string, body, reply any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, s.base+"/"+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || bytes.Contains(text, []byte("FAILURE")) {
		return fmt.Errorf("%s: %s", path, text)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(text, reply)
}

func fields(t *Transaction) map[string]any {
	payloads := make([]string, len(t.Payloads))
	for i, payload := range t.Payloads {
		payloads[i] = string(payload)
	}
	return map[string]any{
		"gid": t.Gid, "trans_type": t.Mode, "steps": t.Steps, "payloads": payloads, "query_prepared": t.QueryPrepared,
		"custom_data": t.CustomData, "wait_result": t.WaitResult, "timeout_to_fail": t.TimeoutToFail,
		"req_extra": t.Extra, "rollback_reason": t.Reason, "protocol": "http",
	}
}

// outcome reads what a branch answered.
func outcome(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusTooEarly || bytes.Contains(text, []byte("ONGOING")):
		return fmt.Errorf("%s %w", text, errOngoing)
	case response.StatusCode == http.StatusConflict || bytes.Contains(text, []byte("FAILURE")):
		return fmt.Errorf("%s %w", text, errRefused)
	case response.StatusCode != http.StatusOK:
		return errors.New(string(text))
	}
	return nil
}

// serveHTTP answers branch calls, resumes workflows, and runs cases for the test.
func serveHTTP(listener net.Listener, b *Bank) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/bank/", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		incoming := &Incoming{
			Branch:    branchOf(query),
			Phase2URL: query.Get("phase2_url"),
			Transfer:  &bank.Transfer{},
			Server:    b.servers["http"],
		}
		err := json.NewDecoder(r.Body).Decode(incoming.Transfer)
		if err == nil || errors.Is(err, io.EOF) { // the second phase of XA and a query have no body
			err = b.serve(strings.TrimPrefix(r.URL.Path, "/bank/"), incoming)
		}
		answer(w, map[string]string{"dtm_result": "SUCCESS"}, err)
	})
	mux.HandleFunc("/workflow", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			query := r.URL.Query()
			_, err = b.workflow(b.servers["http"], query.Get("op"), query.Get("gid"), data)
		}
		answer(w, map[string]string{"dtm_result": "SUCCESS"}, err)
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

func branchOf(query url.Values) Branch {
	return Branch{query.Get("trans_type"), query.Get("gid"), query.Get("branch_id"), query.Get("op")}
}

func answer(w http.ResponseWriter, good any, err error) {
	status := http.StatusOK
	body := good
	if err != nil {
		status = http.StatusInternalServerError
		if errors.Is(err, errRefused) {
			status = http.StatusConflict
		} else if errors.Is(err, errOngoing) {
			status = http.StatusTooEarly
		}
		body = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The caller may be gone; it asks again then.
	_ = json.NewEncoder(w).Encode(body)
}
