// Emits numbered events with fluent-logger-golang over the socket that is named, one at a time, and
// says of each one when it is acknowledged. Usage: forward_go SOCKET TAG COUNT
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fluent/fluent-logger-golang/fluent"
)

func main() {
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	logger, err := fluent.New(fluent.Config{
		FluentNetwork:      "unix",
		FluentSocketPath:   os.Args[1],
		RequestAck:         true,
		SubSecondPrecision: true,
		RetryWait:          20,
		MaxRetryWait:       200,
		MaxRetry:           1 << 30,
	})
	check(err)
	for n := 0; n < count; n++ {
		record := map[string]string{"log": fmt.Sprintf("%d %s", n, strings.Repeat("ü", n%300))}
		check(logger.PostWithTime(os.Args[2], time.Unix(int64(n), 7), record))
		fmt.Println(n)
	}
	check(logger.Close())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
