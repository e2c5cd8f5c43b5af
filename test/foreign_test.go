//go:build linux

package test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/transfer"
)

// TestForeignStacks exchanges bytes over a lane's data channel, set up as for files, with WebRTC stacks that are in no browser: what other programs are written with.
// 100 MiB each way with MADANG_TEST_LONG, less without.
func TestForeignStacks(t *testing.T) {
	size, limit := 8<<20, patience
	if os.Getenv("MADANG_TEST_LONG") != "" {
		size, limit = 100<<20, 8*time.Minute
	}
	for name, stack := range map[string]struct{ present, run []string }{
		"aiortc":         {[]string{"/usr/bin/python3", "-c", "import aiortc"}, []string{"/usr/bin/python3", "foreign/aiortc_end.py"}},
		"libdatachannel": {[]string{"node", "--input-type=module", "-e", "import 'node-datachannel'"}, []string{"node", "foreign/libdatachannel_end.mjs"}},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := exec.Command(stack.present[0], stack.present[1:]...).CombinedOutput(); err != nil {
				lab.Missing(t, "needs %s: %s", name, out)
			}
			ctx := within(t, limit)
			var log lab.Tail
			cmd := exec.CommandContext(ctx, stack.run[0], append(stack.run[1:], fmt.Sprint(size))...)
			cmd.Stderr = &log
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			says := bufio.NewScanner(out)
			says.Buffer(nil, 1<<20)
			next := func() (said struct {
				SDP    string
				SHA256 string
			}) {
				if !says.Scan() || json.Unmarshal(says.Bytes(), &said) != nil {
					t.Fatalf("it said %q, %v\n%s", says.Text(), says.Err(), &log)
				}
				return said
			}

			ours, err := transfer.NewBare()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			offer, err := ours.Offer()
			if err != nil {
				t.Fatal(err)
			}
			if err := json.NewEncoder(in).Encode(map[string]string{"sdp": offer}); err != nil {
				t.Fatal(err)
			}
			if err := ours.Accept(next().SDP); err != nil {
				t.Fatal(err)
			}
			if err := ours.Open(ctx); err != nil {
				t.Fatalf("no channel: %v\n%s", err, &log)
			}
			there, back := exchange(ctx, t, ours, size, func() string { return next().SHA256 })
			t.Logf("%d MiB there at %.1f MiB/s, and back at %.1f MiB/s", size>>20, there, back)
			fmt.Fprintln(in)
		})
	}
}

// exchange sends size bytes and takes as many; what the other end says of the two must be true. The rates are in MiB a second.
func exchange(ctx context.Context, t *testing.T, ours *transfer.Bare, size int, said func() string) (there, back float64) {
	t.Helper()
	started := time.Now()
	content := rand.NewChaCha8([32]byte{3})
	sum := sha256.New()
	data := make([]byte, 64<<10)
	for sent := 0; sent < size; sent += len(data) {
		content.Read(data)
		sum.Write(data)
		if err := ours.Send(data); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := said(), hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("it received something else: SHA-256 %s, want %s", got, want)
	}
	there = float64(size) / (1 << 20) / time.Since(started).Seconds()
	started = time.Now()
	sum.Reset()
	for received := 0; received < size; {
		data, err := ours.Recv()
		if err != nil {
			t.Fatalf("after %d bytes: %v, %v", received, err, ctx.Err())
		}
		sum.Write(data)
		received += len(data)
	}
	back = float64(size) / (1 << 20) / time.Since(started).Seconds()
	if got, want := hex.EncodeToString(sum.Sum(nil)), said(); got != want {
		t.Errorf("received SHA-256 %s, it sent %s", got, want)
	}
	return there, back
}
