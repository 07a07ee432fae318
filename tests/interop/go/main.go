// Command bank is a bank in Go for the interoperation tests: it starts global transactions at a
// server and does the business of their branches, over HTTP and over gRPC, on MariaDB, PostgreSQL
// and Redis.
//
// It speaks DTM's protocol with the libraries that Go programs use for it (net/http, grpc-go,
// database/sql, go-redis), but it is not DTM's own Go client: no code of that client is in here.
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
)

func main() {
	server := flag.String("server", "", "base URL of the server's HTTP API")
	grpcServer := flag.String("grpc-server", "", "host:port of the server's gRPC API; empty if it has none")
	httpPort := flag.Int("http-port", 0, "port of the business over HTTP, and of /run")
	grpcPort := flag.Int("grpc-port", 0, "port of the business over gRPC")
	databases := Databases{}
	flag.StringVar(&databases.MariaDB, "mariadb", "", "data source of MariaDB")
	flag.StringVar(&databases.Postgres, "postgres", "", "data source of PostgreSQL")
	flag.StringVar(&databases.Redis, "redis", "", "URL of Redis")
	flag.Parse()
	if err := run(*server, *grpcServer, *httpPort, *grpcPort, databases); err != nil {
		log.Fatal(err)
	}
}

func run(server, grpcServer string, httpPort, grpcPort int, databases Databases) error {
	accounts, err := databases.open()
	if err != nil {
		return err
	}
	overHTTP, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", httpPort))
	if err != nil {
		return err
	}
	overGRPC, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", grpcPort))
	if err != nil {
		return err
	}
	bank := newBank(accounts)
	bank.servers["http"] = &httpServer{base: server, business: "http://" + overHTTP.Addr().String()}
	if grpcServer != "" {
		byGRPC, err := newGRPCServer(grpcServer, overGRPC.Addr().String())
		if err != nil {
			return err
		}
		bank.servers["grpc"] = byGRPC
	}
	failed := make(chan error, 2)
	go func() { failed <- serveHTTP(overHTTP, bank) }()
	go func() { failed <- serveGRPC(overGRPC, bank) }()
	fmt.Printf("ready %d\n", overHTTP.Addr().(*net.TCPAddr).Port)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}
