package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/workflow"

	"reefknot.interop/bank/pb/bank"
)

// Client is DTM's Go client over one protocol: each method is one transaction by it.
type Client interface {
	// URL is the address of one of the bank's operations, as the server shall call it.
	URL(operation string) string
	NewGid() string
	Saga(c *aCase, options sagaOptions) error
	// Msg sends a message if and only if the work behind the barrier is committed; the query address knows.
	Msg(c *aCase, query string, work func(*dtmcli.BranchBarrier) error) error
	MsgDB(c *aCase, query string, db *sql.DB, work dtmcli.BarrierBusiFunc) error
	// Topic sends subscribe, unsubscribe or delete.
	Topic(verb, topic, address string) error
	// Tcc calls two branches, the second of them with these operations.
	Tcc(c *aCase, try, confirm, cancel string) error
	Xa(c *aCase) error
}

// sagaOptions are what a saga can ask for besides its steps.
type sagaOptions struct {
	concurrent, wait, firstOverHTTP bool
	orders                          map[int][]int
}

// aCase is what the test asks for.
type aCase struct {
	bank          *Bank
	client        Client
	gid           string
	giver, taker  *bank.Transfer
	timeout       int64
	result, topic string
	late          bool
}

var cases = map[string]func(*aCase) error{
	"saga":            func(c *aCase) error { return c.client.Saga(c, sagaOptions{}) },
	"saga_wait":       func(c *aCase) error { return c.client.Saga(c, sagaOptions{wait: true}) },
	"saga_concurrent": func(c *aCase) error { return c.client.Saga(c, sagaOptions{concurrent: true}) },
	"saga_mixed":      func(c *aCase) error { return c.client.Saga(c, sagaOptions{firstOverHTTP: true}) },
	// The first step waits for the second.
	"saga_order": func(c *aCase) error {
		return c.client.Saga(c, sagaOptions{concurrent: true, orders: map[int][]int{0: {1}}})
	},
	"msg":               (*aCase).msg,
	"msg_db":            (*aCase).msgDB,
	"topic_subscribe":   func(c *aCase) error { return c.client.Topic("subscribe", c.topic, c.client.URL("action")) },
	"topic_unsubscribe": func(c *aCase) error { return c.client.Topic("unsubscribe", c.topic, c.client.URL("action")) },
	"topic_delete":      func(c *aCase) error { return c.client.Topic("delete", c.topic, "") },
	"tcc":               func(c *aCase) error { return c.client.Tcc(c, "try", "confirm", "cancel") },
	"tcc_nested":        func(c *aCase) error { return c.client.Tcc(c, "nested", "nothing", "nothing") },
	"xa":                func(c *aCase) error { return c.client.Xa(c) },
	"workflow_saga":     func(c *aCase) error { return c.workflow("saga") },
	"workflow_tcc":      func(c *aCase) error { return c.workflow("tcc") },
	"workflow_xa":       func(c *aCase) error { return c.workflow("xa") },
	"workflow_mixed":    func(c *aCase) error { return c.workflow("mixed") },
}

// runCase runs a case: its gid, what a workflow returned, and what the client's user would see.
func (b *Bank) runCase(query url.Values) (gid, result string, err error) {
	number := func(name string) int64 {
		value, wrong := strconv.ParseInt(query.Get(name), 10, 32)
		if query.Get(name) != "" && wrong != nil {
			err = wrong
		}
		return value
	}
	amount, late := number("amount"), query.Get("late") != ""
	one := &aCase{
		bank:   b,
		client: b.clients[query.Get("protocol")],
		gid:    query.Get("gid"),
		giver:  &bank.Transfer{Store: query.Get("from_store"), Account: query.Get("from"), Amount: -amount},
		taker: &bank.Transfer{
			Store: query.Get("to_store"), Account: query.Get("to"), Amount: amount,
			Late: late, Ongoing: int32(number("ongoing")),
		},
		timeout: number("timeout"),
		topic:   query.Get("topic"),
		late:    late,
	}
	run := cases[query.Get("case")]
	switch {
	case err != nil:
		return "", "", err
	case run == nil || one.client == nil:
		return "", "", fmt.Errorf("no case %q over %q", query.Get("case"), query.Get("protocol"))
	}
	if one.gid == "" {
		one.gid = one.client.NewGid()
	}
	b.lock.Lock()
	b.crashes[one.gid] = query.Get("crash")
	b.lock.Unlock()
	err = run(one)
	return one.gid, one.result, err
}

func (c *aCase) both() []*bank.Transfer { return []*bank.Transfer{c.giver, c.taker} }

// msg takes the money locally; the receivers get it.
func (c *aCase) msg() error {
	query := c.client.URL("query_" + c.giver.Store)
	return c.client.Msg(c, query, func(barrier *dtmcli.BranchBarrier) error {
		c.bank.dieAt("before_commit", c.gid)
		if c.late {
			if err := c.bank.await("query", c.gid); err != nil {
				return err
			}
		}
		err := c.bank.accounts[c.giver.Store].Work(barrier, "action", c.giver)
		c.bank.dieAt("before_submit", c.gid)
		return err
	})
}

// msgDB is msg in the client's short form, which is for MySQL unless all of the process uses another database.
func (c *aCase) msgDB() error {
	accounts := c.bank.accounts["mariadb"].(*sqlAccounts)
	return c.client.MsgDB(c, c.client.URL("query_mariadb"), accounts.db, func(tx *sql.Tx) error {
		return accounts.adjust(tx, "action", c.giver)
	})
}

func (c *aCase) workflow(name string) error {
	input, err := json.Marshal(c.both())
	if err != nil {
		return err
	}
	result, err := workflow.ExecuteCtx(context.Background(), name, c.gid, input)
	c.result = string(result)
	return err
}
