package main

import (
	"errors"
	"fmt"

	"reefknot.interop/bank/pb/bank"
)

// The outcomes that a branch can answer with besides success; anything else means "try again later".
var (
	errRefused = errors.New("FAILURE")
	errOngoing = errors.New("ONGOING")
)

// Branch says which call of which global transaction is meant.
type Branch struct {
	Mode, Gid, ID, Op string
}

// Complete returns an error if a part is missing: a barrier cannot work without each of them.
func (b Branch) Complete() error {
	if b.Mode == "" || b.Gid == "" || b.ID == "" || b.Op == "" {
		return fmt.Errorf("incomplete branch %+v", b)
	}
	return nil
}

// Transaction is what a client sends to prepare, submit or abort one.
type Transaction struct {
	Gid           string
	Mode          string
	Steps         []map[string]string
	Payloads      [][]byte
	QueryPrepared string
	CustomData    string
	WaitResult    bool
	TimeoutToFail int64
	Extra         map[string]string
	Reason        string
}

// Step is a recorded step of a workflow.
type Step struct {
	BranchID, Op, Status string
	Data                 []byte
}

// Progress is what the server knows of a workflow.
type Progress struct {
	Status, Reason, Result string
	Steps                  []Step
}

// Incoming is a branch call that the bank received.
type Incoming struct {
	Branch
	Phase2URL string
	Transfer  *bank.Transfer
	// The server's API of the protocol that the call came over.
	Server Server
}

// Server is the server of the transactions, over one protocol.
type Server interface {
	// URL is the address of one of the bank's operations, as the server shall call it.
	URL(operation string) string
	// WorkflowURL is the address where workflows are resumed.
	WorkflowURL() string
	NewGid() (string, error)
	// Send sends prepare, submit or abort.
	Send(verb string, transaction *Transaction) error
	RegisterBranch(branch Branch, fields map[string]string, payload []byte) error
	PrepareWorkflow(transaction *Transaction) (*Progress, error)
	// Topic sends subscribe, unsubscribe or delete.
	Topic(verb, topic, url string) error
	// Call does what clients do themselves: the first phase of a branch.
	Call(url string, branch Branch, phase2URL string, transfer *bank.Transfer) error
	// Query asks a query address for the truth about a message.
	Query(url string, branch Branch) error
	Encode(transfer *bank.Transfer) []byte
}

// Branch ids: two digits for each level.
type ids struct {
	prefix string
	last   int
}

func (i *ids) next() string {
	i.last++
	return fmt.Sprintf("%s%02d", i.prefix, i.last)
}
