package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"reefknot.interop/bank/pb/bank"
)

// sagaOptions are what a saga can ask for besides its steps.
type sagaOptions struct {
	concurrent, wait bool
	orders           map[int][]int
	// The API whose addresses the first step has, if not the one that the saga is sent over.
	first Server
}

// saga submits one step for each transfer.
func saga(server Server, gid string, transfers []*bank.Transfer, options sagaOptions) error {
	transaction := &Transaction{Gid: gid, Mode: "saga", WaitResult: options.wait}
	for i, transfer := range transfers {
		to := server
		if i == 0 && options.first != nil {
			to = options.first
		}
		addresses := map[string]string{"action": to.URL("action"), "compensate": to.URL("compensate")}
		transaction.Steps = append(transaction.Steps, addresses)
		transaction.Payloads = append(transaction.Payloads, to.Encode(transfer))
	}
	if options.concurrent {
		text, err := json.Marshal(map[string]any{"concurrent": true, "orders": options.orders})
		if err != nil {
			return err
		}
		transaction.CustomData = string(text)
	}
	return server.Send("submit", transaction)
}

// letter is a message: local work, and a step for each receiver once that is committed.
type letter struct {
	server  Server
	gid     string
	actions []string
	payload []byte
	timeout int64
}

func (l *letter) transaction(query string) *Transaction {
	transaction := &Transaction{Gid: l.gid, Mode: "msg", QueryPrepared: query, TimeoutToFail: l.timeout}
	for _, action := range l.actions {
		transaction.Steps = append(transaction.Steps, map[string]string{"action": action})
		transaction.Payloads = append(transaction.Payloads, l.payload)
	}
	return transaction
}

// doAndSubmit sends the message if and only if the local work is committed. Where the work ends in
// an error that says neither, the query address knows.
func (l *letter) doAndSubmit(query string, work func(Branch) error) error {
	branch := Branch{"msg", l.gid, "00", "msg"}
	transaction := l.transaction(query)
	if err := l.server.Send("prepare", transaction); err != nil {
		return err
	}
	failed := work(branch)
	decided := failed
	if failed != nil && !errors.Is(failed, errRefused) {
		decided = l.server.Query(query, branch)
	}
	switch {
	case errors.Is(decided, errRefused):
		// Without it the server asks the query address, which says the same.
		_ = l.server.Send("abort", transaction)
	case decided == nil:
		if err := l.server.Send("submit", transaction); err != nil && failed == nil {
			return err
		}
	}
	return failed
}

// global is the frame of TCC and XA: prepare, the first phase, and then submit or abort.
func global(server Server, mode, gid string, timeout int64, phaseOne func() error) error {
	transaction := &Transaction{Gid: gid, Mode: mode, TimeoutToFail: timeout}
	if err := server.Send("prepare", transaction); err != nil {
		return err
	}
	if err := phaseOne(); err != nil {
		transaction.Reason = err.Error()
		// Without it the server aborts when the time is over.
		_ = server.Send("abort", transaction)
		return err
	}
	return server.Send("submit", transaction)
}

// tcc is the first phase of a TCC transaction, or of a branch that has branches of its own.
type tcc struct {
	server Server
	gid    string
	ids    ids
}

// call registers a branch and calls its try.
func (t *tcc) call(transfer *bank.Transfer, try, confirm, cancel string) error {
	branch := Branch{"tcc", t.gid, t.ids.next(), "try"}
	addresses := map[string]string{"confirm": t.server.URL(confirm), "cancel": t.server.URL(cancel)}
	if err := t.server.RegisterBranch(branch, addresses, t.server.Encode(transfer)); err != nil {
		return err
	}
	return t.server.Call(t.server.URL(try), branch, "", transfer)
}

// xaCall calls an XA branch, which registers itself.
func xaCall(server Server, gid string, ids *ids, transfer *bank.Transfer) error {
	address := server.URL("xa_" + transfer.Store)
	branch := Branch{"xa", gid, ids.next(), "action"}
	if err := server.Call(address, branch, address, transfer); err != nil {
		return fmt.Errorf("branch %s: %w", branch.ID, err)
	}
	return nil
}
