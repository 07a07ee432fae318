package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a late try waits for its cancel.
const patience = 20 * time.Second

// Bank is the business: what the branches do.
type Bank struct {
	accounts map[string]Accounts
	servers  map[string]Server

	lock      sync.Mutex
	answered  map[string]int           // how often a call has been made that is ongoing at first
	cancelled map[string]chan struct{} // closed when the cancel of a transaction has been answered
	crashes   map[string]string        // where this process dies, by gid
}

func newBank(accounts map[string]Accounts) *Bank {
	return &Bank{
		accounts:  accounts,
		servers:   map[string]Server{},
		answered:  map[string]int{},
		cancelled: map[string]chan struct{}{},
		crashes:   map[string]string{},
	}
}

// serve does the business of one branch call.
func (b *Bank) serve(operation string, call *Incoming) error {
	if err := call.Complete(); err != nil {
		return err
	}
	transfer := call.Transfer
	if b.isOngoing(call) {
		return fmt.Errorf("still at work: %w", errOngoing)
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
		return accounts.Decide(call.Branch)
	case "xa":
		return accounts.(*sqlAccounts).xa(call)
	case "nested":
		nested := &tcc{server: call.Server, gid: call.Gid, ids: ids{prefix: call.ID}}
		return nested.call(transfer, "try", "confirm", "cancel")
	}
	if transfer.Late && operation == "try" {
		if err := b.awaitCancel(call.Gid); err != nil {
			return err
		}
	}
	err := accounts.Work(call.Branch, operation, transfer)
	if operation == "cancel" && err == nil {
		b.noteCancel(call.Gid)
	}
	return err
}

func (b *Bank) isOngoing(call *Incoming) bool {
	b.lock.Lock()
	defer b.lock.Unlock()
	if call.Transfer.GetOngoing() == 0 {
		return false
	}
	key := fmt.Sprint(call.Branch)
	b.answered[key]++
	return b.answered[key] <= int(call.Transfer.Ongoing)
}

func (b *Bank) cancelOf(gid string) chan struct{} {
	b.lock.Lock()
	defer b.lock.Unlock()
	if b.cancelled[gid] == nil {
		b.cancelled[gid] = make(chan struct{})
	}
	return b.cancelled[gid]
}

func (b *Bank) awaitCancel(gid string) error {
	select {
	case <-b.cancelOf(gid):
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s was not cancelled", gid)
	}
}

func (b *Bank) noteCancel(gid string) {
	cancelled := b.cancelOf(gid)
	b.lock.Lock()
	defer b.lock.Unlock()
	select {
	case <-cancelled:
	default:
		close(cancelled)
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
