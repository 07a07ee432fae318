package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"reefknot.interop/bank/pb/bank"
	"reefknot.interop/bank/pb/dtmgimp"
	"reefknot.interop/bank/pb/workflow"
)

// grpcServer is the server's gRPC API.
type grpcServer struct {
	address, business string
	client            dtmgimp.DtmClient
	branches          *grpc.ClientConn
}

var plain = grpc.WithTransportCredentials(insecure.NewCredentials())

func newGRPCServer(address, business string) (*grpcServer, error) {
	server, err := grpc.NewClient(address, plain)
	if err != nil {
		return nil, err
	}
	branches, err := grpc.NewClient(business, plain)
	if err != nil {
		return nil, err
	}
	return &grpcServer{address, business, dtmgimp.NewDtmClient(server), branches}, nil
}

func (s *grpcServer) URL(operation string) string {
	words := strings.Split(operation, "_")
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return s.business + "/bank.Bank/" + strings.Join(words, "")
}

func (s *grpcServer) WorkflowURL() string {
	return s.business + workflow.Workflow_Execute_FullMethodName
}

func (s *grpcServer) Encode(transfer *bank.Transfer) []byte {
	data, err := proto.Marshal(transfer)
	if err != nil {
		panic(err)
	}
	return data
}

func (s *grpcServer) NewGid() (string, error) {
	reply, err := s.client.NewGid(context.Background(), &emptypb.Empty{})
	return reply.GetGid(), err
}

func (s *grpcServer) Send(verb string, transaction *Transaction) error {
	request := message(transaction)
	var err error
	switch verb {
	case "prepare":
		_, err = s.client.Prepare(context.Background(), request)
	case "submit":
		_, err = s.client.Submit(context.Background(), request)
	case "abort":
		_, err = s.client.Abort(context.Background(), request)
	default:
		err = fmt.Errorf("unknown verb %s", verb)
	}
	return err
}

func (s *grpcServer) RegisterBranch(branch Branch, more map[string]string, payload []byte) error {
	data := map[string]string{"op": branch.Op}
	for name, value := range more {
		data[name] = value
	}
	_, err := s.client.RegisterBranch(context.Background(), &dtmgimp.DtmBranchRequest{
		Gid: branch.Gid, TransType: branch.Mode, BranchID: branch.ID, Data: data, BusiPayload: payload,
	})
	return err
}

func (s *grpcServer) PrepareWorkflow(transaction *Transaction) (*Progress, error) {
	reply, err := s.client.PrepareWorkflow(context.Background(), message(transaction))
	if err != nil {
		return nil, err
	}
	known := reply.Transaction
	progress := &Progress{Status: known.Status, Reason: known.RollbackReason, Result: known.Result}
	for _, one := range reply.Progresses {
		progress.Steps = append(progress.Steps, Step{one.BranchID, one.Op, one.Status, one.BinData})
	}
	return progress, nil
}

func (s *grpcServer) Topic(verb, topic, address string) error {
	request := &dtmgimp.DtmTopicRequest{Topic: topic, URL: address, Remark: "of the test"}
	var err error
	switch verb {
	case "subscribe":
		_, err = s.client.Subscribe(context.Background(), request)
	case "unsubscribe":
		_, err = s.client.Unsubscribe(context.Background(), request)
	default:
		_, err = s.client.DeleteTopic(context.Background(), request)
	}
	return err
}

func (s *grpcServer) Call(address string, branch Branch, phase2URL string, transfer *bank.Transfer) error {
	return s.invoke(address, branch, phase2URL, transfer)
}

func (s *grpcServer) Query(address string, branch Branch) error {
	return s.invoke(address, branch, "", &emptypb.Empty{})
}

func (s *grpcServer) invoke(address string, branch Branch, phase2URL string, request proto.Message) error {
	_, method, _ := strings.Cut(address, "/")
	context := metadata.AppendToOutgoingContext(context.Background(),
		"dtm-gid", branch.Gid, "dtm-trans_type", branch.Mode, "dtm-branch_id", branch.ID, "dtm-op", branch.Op,
		"dtm-dtm", s.address, "dtm-phase2_url", phase2URL)
	err := s.branches.Invoke(context, "/"+method, request, &emptypb.Empty{})
	switch status.Code(err) {
	case codes.Aborted:
		return fmt.Errorf("%s %w", err, errRefused)
	case codes.FailedPrecondition:
		return fmt.Errorf("%s %w", err, errOngoing)
	}
	return err
}

func message(t *Transaction) *dtmgimp.DtmRequest {
	steps := ""
	if len(t.Steps) > 0 {
		text, err := json.Marshal(t.Steps)
		if err != nil {
			panic(err)
		}
		steps = string(text)
	}
	return &dtmgimp.DtmRequest{
		Gid: t.Gid, TransType: t.Mode, Steps: steps, BinPayloads: t.Payloads, QueryPrepared: t.QueryPrepared,
		CustomedData: t.CustomData, ReqExtra: t.Extra, RollbackReason: t.Reason,
		TransOptions: &dtmgimp.DtmTransOptions{WaitResult: t.WaitResult, TimeoutToFail: t.TimeoutToFail},
	}
}

// grpcBank is the bank's service and the one that resumes workflows.
type grpcBank struct {
	bank.UnimplementedBankServer
	workflow.UnimplementedWorkflowServer
	bank *Bank
}

func serveGRPC(listener net.Listener, b *Bank) error {
	server := grpc.NewServer()
	service := &grpcBank{bank: b}
	bank.RegisterBankServer(server, service)
	workflow.RegisterWorkflowServer(server, service)
	return server.Serve(listener)
}

func (g *grpcBank) serve(ctx context.Context, operation string, transfer *bank.Transfer) (*emptypb.Empty, error) {
	incoming := &Incoming{
		Branch:    branchIn(ctx),
		Phase2URL: header(ctx, "dtm-phase2_url"),
		Transfer:  transfer,
		Server:    g.bank.servers["grpc"],
	}
	return &emptypb.Empty{}, grpcError(g.bank.serve(operation, incoming))
}

func (g *grpcBank) Execute(ctx context.Context, data *workflow.WorkflowData) (*emptypb.Empty, error) {
	branch := branchIn(ctx)
	_, err := g.bank.workflow(g.bank.servers["grpc"], branch.Op, branch.Gid, data.Data)
	return &emptypb.Empty{}, grpcError(err)
}

func (g *grpcBank) Action(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "action", t)
}

func (g *grpcBank) Compensate(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "compensate", t)
}

func (g *grpcBank) Try(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "try", t)
}

func (g *grpcBank) Confirm(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "confirm", t)
}

func (g *grpcBank) Cancel(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "cancel", t)
}

func (g *grpcBank) XaMariadb(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "xa_mariadb", t)
}

func (g *grpcBank) XaPostgres(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "xa_postgres", t)
}

func (g *grpcBank) Nested(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "nested", t)
}

func (g *grpcBank) Nothing(ctx context.Context, t *bank.Transfer) (*emptypb.Empty, error) {
	return g.serve(ctx, "nothing", t)
}

func (g *grpcBank) QueryMariadb(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	return g.serve(ctx, "query_mariadb", nil)
}

func (g *grpcBank) QueryPostgres(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	return g.serve(ctx, "query_postgres", nil)
}

func (g *grpcBank) QueryRedis(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	return g.serve(ctx, "query_redis", nil)
}

func branchIn(ctx context.Context) Branch {
	return Branch{
		header(ctx, "dtm-trans_type"), header(ctx, "dtm-gid"), header(ctx, "dtm-branch_id"), header(ctx, "dtm-op"),
	}
}

func header(ctx context.Context, name string) string {
	found := metadata.ValueFromIncomingContext(ctx, name)
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func grpcError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errRefused):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, errOngoing):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return err
}
