package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"reefknot.interop/bank/pb/bank"
)

// workflowInput is what a workflow is started with.
type workflowInput struct {
	Transfers []*bank.Transfer
}

// aWorkflow is one run of a workflow: steps that an earlier run recorded are not done again.
type aWorkflow struct {
	bank     *Bank
	server   Server
	gid      string
	recorded map[string]Step
	ids      ids
	finish   []func(op string) error
}

// workflows are the functions by name; each returns a text that the server keeps.
var workflows map[string]func(*aWorkflow, []*bank.Transfer) (string, error)

func init() {
	workflows = map[string]func(*aWorkflow, []*bank.Transfer) (string, error){
		"saga":  func(w *aWorkflow, t []*bank.Transfer) (string, error) { return w.each(t, w.sagaStep) },
		"tcc":   func(w *aWorkflow, t []*bank.Transfer) (string, error) { return w.each(t, w.tccStep) },
		"xa":    func(w *aWorkflow, t []*bank.Transfer) (string, error) { return w.each(t, w.xaStep) },
		"mixed": mixed,
	}
}

// mixed has a local step, an XA step and a TCC step.
func mixed(w *aWorkflow, transfers []*bank.Transfer) (string, error) {
	note, err := w.do(w.ids.next(), "action", func() ([]byte, error) { return []byte("noted"), nil })
	if err != nil {
		return "", err
	}
	if err := w.xaStep(transfers[0]); err != nil {
		return "", err
	}
	w.bank.dieAt("in_between", w.gid)
	return string(note), w.tccStep(transfers[1])
}

func (w *aWorkflow) each(transfers []*bank.Transfer, step func(*bank.Transfer) error) (string, error) {
	for i, transfer := range transfers {
		if i > 0 {
			w.bank.dieAt("in_between", w.gid)
		}
		if err := step(transfer); err != nil {
			return "", err
		}
	}
	return "moved", nil
}

// do does a step once and records how it ended; an error that says neither success nor refusal is not recorded.
func (w *aWorkflow) do(id, op string, work func() ([]byte, error)) ([]byte, error) {
	if step, ok := w.recorded[id+"-"+op]; ok {
		if step.Status == "failed" {
			return nil, fmt.Errorf("%s %w", step.Data, errRefused)
		}
		return step.Data, nil
	}
	data, err := work()
	if err != nil && !errors.Is(err, errRefused) {
		return nil, err
	}
	if err := w.record(id, op, data, err); err != nil {
		return nil, err
	}
	return data, err
}

func (w *aWorkflow) record(id, op string, data []byte, refused error) error {
	status := "succeed"
	if refused != nil {
		status = "failed"
	}
	branch := Branch{"workflow", w.gid, id, op}
	return w.server.RegisterBranch(branch, map[string]string{"status": status}, data)
}

// call makes a recorded call of the bank.
func (w *aWorkflow) call(id, op, operation string, transfer *bank.Transfer) error {
	_, err := w.do(id, op, func() ([]byte, error) {
		return nil, w.server.Call(w.server.URL(operation), Branch{"workflow", w.gid, id, op}, "", transfer)
	})
	return err
}

// onFinish adds what the second phase does for a branch: with op commit or rollback.
func (w *aWorkflow) onFinish(finish func(op string) error) { w.finish = append(w.finish, finish) }

func (w *aWorkflow) sagaStep(transfer *bank.Transfer) error {
	id := w.ids.next()
	if err := w.call(id, "action", "action", transfer); err != nil {
		return err
	}
	w.onFinish(func(op string) error {
		if op == "commit" {
			return nil
		}
		return w.call(id, op, "compensate", transfer)
	})
	return nil
}

func (w *aWorkflow) tccStep(transfer *bank.Transfer) error {
	id := w.ids.next()
	if err := w.call(id, "action", "try", transfer); err != nil {
		return err
	}
	w.onFinish(func(op string) error {
		return w.call(id, op, map[string]string{"commit": "confirm", "rollback": "cancel"}[op], transfer)
	})
	return nil
}

// xaStep does the first phase itself. The step is recorded before it is prepared, and once more after:
// a run that finds only the first record cannot know whether the database has it.
func (w *aWorkflow) xaStep(transfer *bank.Transfer) error {
	id := w.ids.next()
	accounts := w.bank.accounts[transfer.Store].(*sqlAccounts)
	branch := Branch{"workflow", w.gid, id, "action"}
	_, begun := w.recorded[id+"-business"]
	_, err := w.do(id, "action", func() ([]byte, error) {
		if begun {
			return nil, fmt.Errorf("perhaps prepared: %w", errRefused)
		}
		return nil, accounts.xaPhaseOne(branch, func(to executor) error {
			if err := accounts.adjust(to, "action", transfer); err != nil {
				return err
			}
			return w.record(id, "business", nil, nil)
		})
	})
	if err == nil || begun {
		w.onFinish(func(op string) error {
			_, err := w.do(id, op, func() ([]byte, error) { return nil, accounts.xaFinish(branch, op) })
			return err
		})
	}
	return err
}

// workflow runs a workflow to its end, or as far as it gets; the server asks for it again then.
func (b *Bank) workflow(server Server, name, gid string, input []byte) (string, error) {
	function := workflows[name]
	if function == nil {
		return "", fmt.Errorf("no workflow %q", name)
	}
	custom, err := json.Marshal(map[string]any{"name": name, "data": input})
	if err != nil {
		return "", err
	}
	transaction := &Transaction{
		Gid: gid, Mode: "workflow", QueryPrepared: server.WorkflowURL(), CustomData: string(custom),
	}
	known, err := server.PrepareWorkflow(transaction)
	if err != nil {
		return "", err
	}
	switch known.Status {
	case "succeed":
		result, err := base64.StdEncoding.DecodeString(known.Result)
		return string(result), err
	case "failed":
		return "", fmt.Errorf("%s %w", known.Reason, errRefused)
	}
	run := &aWorkflow{bank: b, server: server, gid: gid, recorded: map[string]Step{}}
	for _, step := range known.Steps {
		run.recorded[step.BranchID+"-"+step.Op] = step
	}
	var parsed workflowInput
	if err := json.Unmarshal(input, &parsed); err != nil {
		return "", err
	}
	result, err := function(run, parsed.Transfers)
	if err != nil && !errors.Is(err, errRefused) {
		return "", err
	}
	return result, run.end(transaction, result, err)
}

// end does the second phase and tells the server how it went.
func (w *aWorkflow) end(transaction *Transaction, result string, refused error) error {
	op, status, reason := "commit", "succeed", ""
	if refused != nil {
		op, status, reason = "rollback", "failed", refused.Error()
	}
	for i := len(w.finish) - 1; i >= 0; i-- {
		if err := w.finish[i](op); err != nil {
			// As text only: a refusal in the second phase is no outcome.
			return errors.New("second phase: " + err.Error())
		}
		w.bank.dieAt("in_the_second_phase", w.gid)
	}
	transaction.Extra = map[string]string{
		"status": status, "rollback_reason": reason, "result": base64.StdEncoding.EncodeToString([]byte(result)),
	}
	if err := w.server.Send("submit", transaction); err != nil {
		return err
	}
	return refused
}
