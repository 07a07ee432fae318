package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"reefknot.interop/bank/pb/bank"
)

// aCase is what the test asks for.
type aCase struct {
	bank          *Bank
	server        Server
	gid           string
	giver, taker  *bank.Transfer
	timeout       int64
	result, topic string
}

var cases = map[string]func(*aCase) error{
	"saga":            func(c *aCase) error { return saga(c.server, c.gid, c.both(), sagaOptions{}) },
	"saga_wait":       func(c *aCase) error { return saga(c.server, c.gid, c.both(), sagaOptions{wait: true}) },
	"saga_concurrent": func(c *aCase) error { return saga(c.server, c.gid, c.both(), sagaOptions{concurrent: true}) },
	"saga_mixed": func(c *aCase) error {
		// The first step is called over HTTP even if the transaction is one of gRPC.
		return saga(c.server, c.gid, c.both(), sagaOptions{first: c.bank.servers["http"]})
	},
	"saga_order": func(c *aCase) error {
		// The first step waits for the second.
		options := sagaOptions{concurrent: true, orders: map[int][]int{0: {1}}}
		return saga(c.server, c.gid, c.both(), options)
	},
	"msg":               func(c *aCase) error { return c.msg([]string{c.server.URL("action")}) },
	"msg_topic":         func(c *aCase) error { return c.msg([]string{"topic://" + c.topic}) },
	"topic_subscribe":   func(c *aCase) error { return c.server.Topic("subscribe", c.topic, c.server.URL("action")) },
	"topic_unsubscribe": func(c *aCase) error { return c.server.Topic("unsubscribe", c.topic, c.server.URL("action")) },
	"topic_delete":      func(c *aCase) error { return c.server.Topic("delete", c.topic, "") },
	"tcc":               func(c *aCase) error { return c.tcc("try", "confirm", "cancel") },
	"tcc_nested":        func(c *aCase) error { return c.tcc("nested", "nothing", "nothing") },
	"xa":                (*aCase).xa,
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
	amount := number("amount")
	one := &aCase{
		bank:   b,
		server: b.servers[query.Get("protocol")],
		gid:    query.Get("gid"),
		giver:  &bank.Transfer{Store: query.Get("from_store"), Account: query.Get("from"), Amount: -amount},
		taker: &bank.Transfer{
			Store: query.Get("to_store"), Account: query.Get("to"), Amount: amount,
			Late: query.Get("late") != "", Ongoing: int32(number("ongoing")),
		},
		timeout: number("timeout"),
		topic:   query.Get("topic"),
	}
	run := cases[query.Get("case")]
	switch {
	case err != nil:
		return "", "", err
	case run == nil || one.server == nil:
		return "", "", fmt.Errorf("no case %q over %q", query.Get("case"), query.Get("protocol"))
	}
	if one.gid == "" {
		if one.gid, err = one.server.NewGid(); err != nil {
			return "", "", err
		}
	}
	b.lock.Lock()
	b.crashes[one.gid] = query.Get("crash")
	b.lock.Unlock()
	err = run(one)
	return one.gid, one.result, err
}

func (c *aCase) both() []*bank.Transfer { return []*bank.Transfer{c.giver, c.taker} }

// msg takes the money locally; the receivers get it.
func (c *aCase) msg(actions []string) error {
	message := &letter{c.server, c.gid, actions, c.server.Encode(c.taker), c.timeout}
	return message.doAndSubmit(c.server.URL("query_"+c.giver.Store), func(branch Branch) error {
		c.bank.dieAt("before_commit", c.gid)
		err := c.bank.accounts[c.giver.Store].Work(branch, "action", c.giver)
		c.bank.dieAt("before_submit", c.gid)
		return err
	})
}

func (c *aCase) tcc(try, confirm, cancel string) error {
	return global(c.server, "tcc", c.gid, c.timeout, func() error {
		branches := &tcc{server: c.server, gid: c.gid}
		if err := branches.call(c.giver, "try", "confirm", "cancel"); err != nil {
			return err
		}
		c.bank.dieAt("in_between", c.gid)
		return branches.call(c.taker, try, confirm, cancel)
	})
}

func (c *aCase) xa() error {
	return global(c.server, "xa", c.gid, c.timeout, func() error {
		var branches ids
		if err := xaCall(c.server, c.gid, &branches, c.giver); err != nil {
			return err
		}
		c.bank.dieAt("in_between", c.gid)
		return xaCall(c.server, c.gid, &branches, c.taker)
	})
}

func (c *aCase) workflow(name string) error {
	input, err := json.Marshal(workflowInput{c.both()})
	if err != nil {
		return err
	}
	c.result, err = c.bank.workflow(c.server, name, c.gid, input)
	return err
}
