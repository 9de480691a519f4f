// Looks all names up at once with Go's own resolver: lines "NAME ADDRESS" or "NAME !ERROR".
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

func main() {
	resolver := net.Resolver{PreferGo: true}
	results := make([]string, len(os.Args)-1)
	var group sync.WaitGroup
	for i, name := range os.Args[1:] {
		group.Add(1)
		go func(i int, name string) {
			defer group.Done()
			addresses, err := resolver.LookupHost(context.Background(), name)
			if err != nil {
				addresses = []string{"!" + strings.ReplaceAll(err.Error(), " ", "_")}
			}
			for _, address := range addresses {
				results[i] += name + " " + address + "\n"
			}
		}(i, name)
	}
	group.Wait()
	fmt.Print(strings.Join(results, ""))
}
