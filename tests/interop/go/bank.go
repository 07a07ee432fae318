package main

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"

	"reefknot.interop/bank/pb/bank"
)

// patience is how long a late call waits for what shall come before it.
const patience = 20 * time.Second

// Incoming is a branch call that the bank received.
type Incoming struct {
	*dtmcli.BranchBarrier
	Transfer *bank.Transfer
	// XaLocal is the client's XA of the protocol that the call came over.
	XaLocal func(conf dtmcli.DBConf, work func(db *sql.DB) error) error
	// Nested calls a TCC branch below this one.
	Nested func(transfer *bank.Transfer) error
}

// Bank is the business: what the branches do.
type Bank struct {
	accounts map[string]Accounts
	clients  map[string]Client

	lock     sync.Mutex
	answered map[string]int           // how often a call has been made that is ongoing at first
	done     map[string]chan struct{} // closed when a call has been answered that another waits for
	crashes  map[string]string        // where this process dies, by gid
}

func newBank(accounts map[string]Accounts) *Bank {
	return &Bank{
		accounts: accounts,
		clients:  map[string]Client{},
		answered: map[string]int{},
		done:     map[string]chan struct{}{},
		crashes:  map[string]string{},
	}
}

// serve does the business of one branch call.
func (b *Bank) serve(operation string, call *Incoming) error {
	transfer := call.Transfer
	if b.isOngoing(call) {
		return fmt.Errorf("still at work: %w", dtmcli.ErrOngoing)
	}
	operation, store, named := strings.Cut(operation, "_")
	if !named {
		store = transfer.GetStore()
	}
	accounts := b.accounts[store]
	switch operation {
	case "nothing":
		return nil
	case "query":
		err := accounts.Decide(call.BranchBarrier)
		b.note("query", call.Gid)
		return err
	case "xa":
		on := accounts.(*sqlAccounts)
		return on.prepared(transfer, func(work func(db *sql.DB) error) error { return call.XaLocal(on.conf, work) })
	case "nested":
		return call.Nested(transfer)
	}
	if transfer.Late && operation == "try" {
		if err := b.await("cancel", call.Gid); err != nil {
			return err
		}
	}
	err := accounts.Work(call.BranchBarrier, operation, transfer)
	if operation == "cancel" && err == nil {
		b.note("cancel", call.Gid)
	}
	return err
}

func (b *Bank) isOngoing(call *Incoming) bool {
	b.lock.Lock()
	defer b.lock.Unlock()
	if call.Transfer.GetOngoing() == 0 {
		return false
	}
	key := call.BranchBarrier.String()
	b.answered[key]++
	return b.answered[key] <= int(call.Transfer.Ongoing)
}

func (b *Bank) of(operation, gid string) chan struct{} {
	b.lock.Lock()
	defer b.lock.Unlock()
	key := operation + " " + gid
	if b.done[key] == nil {
		b.done[key] = make(chan struct{})
	}
	return b.done[key]
}

func (b *Bank) await(operation, gid string) error {
	select {
	case <-b.of(operation, gid):
		return nil
	case <-time.After(patience):
		return fmt.Errorf("no %s of %s came", operation, gid)
	}
}

func (b *Bank) note(operation, gid string) {
	done := b.of(operation, gid)
	b.lock.Lock()
	defer b.lock.Unlock()
	select {
	case <-done:
	default:
		close(done)
	}
}

// dieAt ends the process, as a loss of power would, if the test asked for it at this point.
func (b *Bank) dieAt(point, gid string) {
	b.lock.Lock()
	here := b.crashes[gid] == point
	b.lock.Unlock()
	if here {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
