// Command bank is a bank in Go for the interoperation tests: with DTM's own Go client it starts
// global transactions at a server and does the business of their branches, over HTTP and over gRPC,
// on MariaDB, PostgreSQL and Redis.
//
// It prints "ready PORT" when it answers and ends when its standard input does.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"

	"github.com/dtm-labs/dtm/client/dtmcli/logger"
)

type settings struct {
	server, grpcServer  string
	httpPort, grpcPort  int
	databases           Databases
	workflowsAreOverRPC bool
}

func main() {
	var s settings
	flag.StringVar(&s.server, "server", "", "URL of the server, http://host:port/api/dtmsvr")
	flag.StringVar(&s.grpcServer, "grpc-server", "", "host:port of the server's gRPC API")
	flag.IntVar(&s.httpPort, "http-port", 0, "port of the business over HTTP, and of /run")
	flag.IntVar(&s.grpcPort, "grpc-port", 0, "port of the business over gRPC")
	flag.StringVar(&s.databases.MariaDB, "mariadb", "", "URL of MariaDB")
	flag.StringVar(&s.databases.Postgres, "postgres", "", "URL of PostgreSQL")
	flag.StringVar(&s.databases.Redis, "redis", "", "URL of Redis")
	// The client's workflows use one protocol in a process.
	flag.BoolVar(&s.workflowsAreOverRPC, "grpc-workflows", false, "workflows use gRPC instead of HTTP")
	flag.Parse()
	// Its own default is the standard output, which is the test's.
	logger.InitLog2("warn", "stderr", 0, "")
	if err := run(s); err != nil {
		log.Fatal(err)
	}
}

func run(s settings) error {
	accounts, err := s.databases.open()
	if err != nil {
		return err
	}
	overHTTP, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.httpPort))
	if err != nil {
		return err
	}
	overGRPC, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.grpcPort))
	if err != nil {
		return err
	}
	bank := newBank(accounts)
	business := "http://" + overHTTP.Addr().String()
	bank.clients["http"] = &httpClient{server: s.server, business: business}
	byRPC := strings.TrimSuffix(s.server, "dtmsvr") + "json-rpc"
	bank.clients["json-rpc"] = &httpClient{server: byRPC, protocol: "json-rpc", business: business}
	bank.clients["grpc"] = &grpcClient{server: s.grpcServer, business: overGRPC.Addr().String()}
	service := newGRPCService(bank)
	if s.workflowsAreOverRPC {
		err = bank.workflowsOverGRPC(s.grpcServer, overGRPC.Addr().String(), service)
	} else {
		err = bank.workflowsOverHTTP(s.server, business)
	}
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- serveHTTP(overHTTP, bank) }()
	go func() { failed <- service.Serve(overGRPC) }()
	fmt.Printf("ready %d\n", overHTTP.Addr().(*net.TCPAddr).Port)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}
