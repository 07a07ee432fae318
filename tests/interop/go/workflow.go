package main

import (
	"database/sql"
	"encoding/json"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/workflow"

	"reefknot.interop/bank/pb/bank"
)

// branchCall calls an operation of the bank; the workflow records what it answers.
type branchCall func(wf *workflow.Workflow, operation string, transfer *bank.Transfer) error

// workflows are the bank's workflows over one protocol.
type workflows struct {
	bank *Bank
	call branchCall
}

type step func(wf *workflow.Workflow, transfer *bank.Transfer) error

func (b *Bank) register(call branchCall) error {
	w := &workflows{b, call}
	for name, run := range map[string]func(*workflow.Workflow, []*bank.Transfer) (string, error){
		"saga":  w.each(w.sagaStep),
		"tcc":   w.each(w.tccStep),
		"xa":    w.each(w.xaStep),
		"mixed": w.mixed,
	} {
		run := run
		err := workflow.Register2(name, func(wf *workflow.Workflow, data []byte) ([]byte, error) {
			var transfers []*bank.Transfer
			if err := json.Unmarshal(data, &transfers); err != nil {
				return nil, err
			}
			result, err := run(wf, transfers)
			return []byte(result), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *workflows) each(do step) func(*workflow.Workflow, []*bank.Transfer) (string, error) {
	return func(wf *workflow.Workflow, transfers []*bank.Transfer) (string, error) {
		for i, transfer := range transfers {
			if i > 0 {
				w.bank.dieAt("in_between", wf.Gid)
			}
			if err := do(wf, transfer); err != nil {
				return "", err
			}
		}
		return "moved", nil
	}
}

// mixed has a local step, an XA step and a TCC step.
func (w *workflows) mixed(wf *workflow.Workflow, transfers []*bank.Transfer) (string, error) {
	note, err := wf.NewBranch().Do(func(*dtmcli.BranchBarrier) ([]byte, error) { return []byte("noted"), nil })
	if err != nil {
		return "", err
	}
	if err := w.xaStep(wf, transfers[0]); err != nil {
		return "", err
	}
	w.bank.dieAt("in_between", wf.Gid)
	return string(note), w.tccStep(wf, transfers[1])
}

func (w *workflows) sagaStep(wf *workflow.Workflow, transfer *bank.Transfer) error {
	wf.NewBranch().OnRollback(func(*dtmcli.BranchBarrier) error { return w.call(wf, "compensate", transfer) })
	return w.call(wf, "action", transfer)
}

func (w *workflows) tccStep(wf *workflow.Workflow, transfer *bank.Transfer) error {
	wf.NewBranch().OnFinish(func(_ *dtmcli.BranchBarrier, isRollback bool) error {
		if isRollback {
			return w.call(wf, "cancel", transfer)
		}
		err := w.call(wf, "confirm", transfer)
		// Done, but not yet recorded as such.
		w.bank.dieAt("in_the_second_phase", wf.Gid)
		return err
	})
	return w.call(wf, "try", transfer)
}

func (w *workflows) xaStep(wf *workflow.Workflow, transfer *bank.Transfer) error {
	accounts := w.bank.accounts[transfer.Store].(*sqlAccounts)
	return accounts.prepared(transfer, func(work func(db *sql.DB) error) error {
		_, err := wf.NewBranch().DoXa(accounts.conf, func(db *sql.DB) ([]byte, error) { return nil, work(db) })
		return err
	})
}
