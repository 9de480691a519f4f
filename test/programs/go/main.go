// The programs in Go: net/http as server and client, and a TCP proxy that is io.Copy in both directions.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve ADDRESS DIRECTORY: the directory's files (sendfile), and POST /echo, which sends the body back.
func serve(address, directory string) {
	http.Handle("/", http.FileServer(http.Dir(directory)))
	http.HandleFunc("/echo", func(response http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			http.Error(response, err.Error(), http.StatusBadRequest)
			return
		}
		response.Header().Set("content-length", strconv.Itoa(len(body)))
		response.Write(body)
	})
	check(http.ListenAndServe(address, nil))
}

type closer interface{ CloseWrite() error }

func forward(to, from net.Conn, done *sync.WaitGroup) {
	defer done.Done()
	io.Copy(to, from) // splice(2) between two sockets
	to.(closer).CloseWrite()
}

// proxy ADDRESS TARGET
func proxy(address, target string) {
	listener, err := net.Listen("tcp", address)
	check(err)
	for {
		client, err := listener.Accept()
		check(err)
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer server.Close()
			var done sync.WaitGroup
			done.Add(2)
			go forward(server, client, &done)
			go forward(client, server, &done)
			done.Wait()
		}()
	}
}

// client URL CLIENTS REQUESTS SIZE: each client posts that many random bodies of up to SIZE bytes to URL/echo over kept connections.
func client(url string, clients, requests, size int) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	caller := &http.Client{Transport: transport, Timeout: 60 * time.Second}
	var done sync.WaitGroup
	var lock sync.Mutex
	total := 0
	for number := 0; number < clients; number++ {
		done.Add(1)
		go func(number int) {
			defer done.Done()
			random := rand.New(rand.NewSource(int64(number)))
			for round := 0; round < requests; round++ {
				body := make([]byte, random.Intn(size)+1)
				random.Read(body)
				response, err := caller.Post(url+"/echo", "application/octet-stream", bytes.NewReader(body))
				check(err)
				answer, err := io.ReadAll(response.Body)
				check(err)
				response.Body.Close()
				if response.StatusCode != 200 || sha256.Sum256(answer) != sha256.Sum256(body) {
					check(fmt.Errorf("client %d, request %d: status %d, sent %d bytes and got others, %d", number, round, response.StatusCode, len(body), len(answer)))
				}
				lock.Lock()
				total++
				lock.Unlock()
			}
		}(number)
	}
	done.Wait()
	fmt.Println("requests", total)
}

// get URL: the body goes to stdout by io.Copy.
func get(url string) {
	response, err := http.Get(url)
	check(err)
	if response.StatusCode != 200 {
		check(fmt.Errorf("status %d", response.StatusCode))
	}
	_, err = io.Copy(os.Stdout, response.Body)
	check(err)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func main() {
	words := os.Args[1:]
	switch {
	case len(words) == 3 && words[0] == "serve":
		serve(words[1], words[2])
	case len(words) == 3 && words[0] == "proxy":
		proxy(words[1], words[2])
	case len(words) == 5 && words[0] == "client":
		client(words[1], number(words[2]), number(words[3]), number(words[4]))
	case len(words) == 2 && words[0] == "get":
		get(words[1])
	default:
		check(fmt.Errorf("serve ADDRESS DIRECTORY | proxy ADDRESS TARGET | client URL CLIENTS REQUESTS SIZE | get URL"))
	}
}
