package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmgrpc"
	"github.com/dtm-labs/dtm/client/dtmgrpc/dtmgimp"
	"github.com/dtm-labs/dtm/client/dtmgrpc/dtmgpb"
	"github.com/dtm-labs/dtm/client/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"reefknot.interop/bank/pb/bank"
)

// grpcClient is dtmgrpc.
type grpcClient struct {
	server, business string
}

// method is the name of an operation in bank.proto.
func method(operation string) string {
	words := strings.Split(operation, "_")
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return "/bank.Bank/" + strings.Join(words, "")
}

func (g *grpcClient) URL(operation string) string { return g.business + method(operation) }

func (g *grpcClient) NewGid() string { return dtmgrpc.MustGenGid(g.server) }

func (g *grpcClient) Saga(c *aCase, wanted sagaOptions) error {
	saga := dtmgrpc.NewSagaGrpc(g.server, c.gid)
	saga.WaitResult = wanted.wait
	transfers := c.both()
	if wanted.firstOverHTTP {
		// The client encodes every payload as protobuf; an HTTP service wants JSON.
		payload, err := json.Marshal(transfers[0])
		if err != nil {
			return err
		}
		over := c.bank.clients["http"]
		step := map[string]string{"action": over.URL("action"), "compensate": over.URL("compensate")}
		saga.Steps, saga.BinPayloads = append(saga.Steps, step), append(saga.BinPayloads, payload)
		transfers = transfers[1:]
	}
	for _, transfer := range transfers {
		saga.Add(g.URL("action"), g.URL("compensate"), transfer)
	}
	if wanted.concurrent {
		saga.EnableConcurrent()
	}
	for branch, before := range wanted.orders {
		saga.AddBranchOrder(branch, before)
	}
	return saga.Submit()
}

func (g *grpcClient) message(c *aCase) *dtmgrpc.MsgGrpc {
	message := dtmgrpc.NewMsgGrpc(g.server, c.gid)
	message.TimeoutToFail = c.timeout
	if c.topic != "" {
		return message.AddTopic(c.topic, c.taker)
	}
	return message.Add(g.URL("action"), c.taker)
}

func (g *grpcClient) Msg(c *aCase, query string, work func(*dtmcli.BranchBarrier) error) error {
	return g.message(c).DoAndSubmit(query, work)
}

func (g *grpcClient) MsgDB(c *aCase, query string, db *sql.DB, work dtmcli.BarrierBusiFunc) error {
	return g.message(c).DoAndSubmitDB(query, db, work)
}

func (g *grpcClient) Topic(verb, topic, address string) error {
	client := dtmgimp.MustGetDtmClient(g.server)
	request := &dtmgpb.DtmTopicRequest{Topic: topic, URL: address, Remark: "of the test"}
	var err error
	switch verb {
	case "subscribe":
		_, err = client.Subscribe(context.Background(), request)
	case "unsubscribe":
		_, err = client.Unsubscribe(context.Background(), request)
	default:
		_, err = client.DeleteTopic(context.Background(), request)
	}
	return err
}

func (g *grpcClient) Tcc(c *aCase, try, confirm, cancel string) error {
	options := func(tcc *dtmgrpc.TccGrpc) { tcc.TimeoutToFail = c.timeout }
	return dtmgrpc.TccGlobalTransaction2(g.server, c.gid, options, func(tcc *dtmgrpc.TccGrpc) error {
		reply := &emptypb.Empty{}
		if err := tcc.CallBranch(c.giver, g.URL("try"), g.URL("confirm"), g.URL("cancel"), reply); err != nil {
			return err
		}
		c.bank.dieAt("in_between", c.gid)
		return tcc.CallBranch(c.taker, g.URL(try), g.URL(confirm), g.URL(cancel), reply)
	})
}

func (g *grpcClient) Xa(c *aCase) error {
	options := func(xa *dtmgrpc.XaGrpc) { xa.TimeoutToFail = c.timeout }
	return dtmgrpc.XaGlobalTransaction2(g.server, c.gid, options, func(xa *dtmgrpc.XaGrpc) error {
		reply := &emptypb.Empty{}
		if err := xa.CallBranch(c.giver, g.URL("xa_"+c.giver.Store), reply); err != nil {
			return err
		}
		c.bank.dieAt("in_between", c.gid)
		return xa.CallBranch(c.taker, g.URL("xa_"+c.taker.Store), reply)
	})
}

// workflowsOverGRPC registers the workflows and, at the bank's service, the address where the server resumes them.
func (b *Bank) workflowsOverGRPC(server, business string, service *grpc.Server) error {
	workflow.InitGrpc(server, business, service)
	recorded := grpc.WithUnaryInterceptor(workflow.Interceptor)
	connection, err := grpc.Dial(business, grpc.WithTransportCredentials(insecure.NewCredentials()), recorded)
	if err != nil {
		return err
	}
	return b.register(func(wf *workflow.Workflow, operation string, transfer *bank.Transfer) error {
		return connection.Invoke(wf.Context, method(operation), transfer, &emptypb.Empty{})
	})
}

// grpcBank is the bank's service.
type grpcBank struct {
	bank.UnimplementedBankServer
	bank *Bank
}

func newGRPCService(b *Bank) *grpc.Server {
	server := grpc.NewServer()
	bank.RegisterBankServer(server, &grpcBank{bank: b})
	return server
}

func (g *grpcBank) serve(ctx context.Context, operation string, transfer *bank.Transfer) (*emptypb.Empty, error) {
	barrier, err := dtmgrpc.BarrierFromGrpc(ctx)
	if err != nil {
		return nil, err
	}
	incoming := &Incoming{BranchBarrier: barrier, Transfer: transfer}
	incoming.XaLocal = func(conf dtmcli.DBConf, work func(db *sql.DB) error) error {
		return dtmgrpc.XaLocalTransaction(ctx, conf, func(db *sql.DB, _ *dtmgrpc.XaGrpc) error { return work(db) })
	}
	incoming.Nested = func(transfer *bank.Transfer) error {
		tcc, err := dtmgrpc.TccFromGrpc(ctx)
		if err != nil {
			return err
		}
		to := g.bank.clients["grpc"]
		return tcc.CallBranch(transfer, to.URL("try"), to.URL("confirm"), to.URL("cancel"), &emptypb.Empty{})
	}
	return &emptypb.Empty{}, dtmgrpc.DtmError2GrpcError(g.bank.serve(operation, incoming))
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
