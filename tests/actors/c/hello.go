// A Go program: static, with a runtime of its own. Says its life into its first argument.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	file, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0600)
	if err != nil {
		os.Exit(2)
	}
	fmt.Fprintf(file, "go life %s\n", os.Getenv("REFRAIN_LIFE"))
	file.Close()
	for {
		time.Sleep(time.Hour)
	}
}
