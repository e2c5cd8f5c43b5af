//go:build linux

package test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
	"github.com/madang-rtc/madang/internal/lab/linkem"
)

// transferEnd makes a page that is one end of a transfer.
func transferEnd(t testing.TB, b *browser.Browser, page, server, name string) *member {
	t.Helper()
	m := &member{b.Open(t, page), t, name}
	m.do(patience, fmt.Sprintf("await transfer.load(%s); transfer.make(%s)", js(server), js(sandboxKey)), nil)
	return m
}

// connectEnds puts both into one channel.
func connectEnds(from, to *member) {
	from.t.Helper()
	from.do(patience, "app.createChannel()", nil)
	var id string
	if err := from.WaitForValue(within(from.t, patience), "app.getChannelId()", &id); err != nil {
		from.t.Fatal(err)
	}
	to.do(patience, fmt.Sprintf("app.connectChannel(%s)", js(id)), nil)
	for _, m := range []*member{from, to} {
		m.await(patience, "transfer.data")
	}
}

// TestPlayRTCFileSurvives sends a file between two pages while its data channel is closed and the sockets to the server are lost: it arrives whole, and
// once, and the call goes on. MADANG_PLAYRTC_FILE_MIB makes it a large one; then the receiver's memory is looked at, too.
func TestPlayRTCFileSurvives(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts browsers")
	}
	mib, wait := 32, patience
	long := os.Getenv("MADANG_PLAYRTC_FILE_MIB")
	if long != "" {
		var err error
		if mib, err = strconv.Atoi(long); err != nil {
			t.Fatal(err)
		}
		wait = time.Hour
	}
	node := serve(t, lab.NodeConfig{})
	site := strings.Replace(playrtcSite(t, node), "127.0.0.1", "localhost", 1)
	sending := browser.Start(t, browser.Chromium, browser.Options{})
	// With a profile of its own: other pages keep their private file system in memory.
	receiving := browser.Start(t, browser.Chromium, browser.Options{Profile: t.TempDir()})
	from := transferEnd(t, sending, site+"/transfer.html", node.HTTP, "sender")
	to := transferEnd(t, receiving, site+"/transfer.html", node.HTTP, "receiver")
	connectEnds(from, to)
	idle := memoryMiB(t, receiving)
	from.do(wait, fmt.Sprintf("await transfer.file(%d * 1048576)", mib), nil)
	most := 0
	watching, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watching.Err() == nil {
			if bytes, err := receiving.MemoryBytes(); err == nil {
				most = max(most, int(bytes>>20)-idle)
			}
			select {
			case <-watching.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	defer watcher.Wait()
	defer stop()
	started := time.Now()
	from.do(patience, "app.sendFile(new File([transfer.source], 'large.bin', { type: 'application/zip' }))", nil)
	to.await(wait, "transfer.progress?.fragIndex > transfer.progress?.fragCount / 5")
	from.do(patience, "transfer.data.channel.close()", nil)
	from.do(patience, "transfer.dropSocket()", nil)
	to.do(patience, "transfer.dropSocket()", nil)
	from.do(patience, "app.userCommand('still here')", nil)
	to.await(patience, "transfer.commands.includes('still here')")
	to.await(wait, "transfer.files.length > 0")
	took := time.Since(started)
	stop()
	watcher.Wait()
	from.await(patience, "transfer.text === 'got it'") // the other way works too
	var sent, received string
	from.do(wait, "return transfer.digest(transfer.source)", &sent)
	to.do(wait, "return transfer.digest(transfer.files[0].blob)", &received)
	if sent != received {
		t.Errorf("got a file with the digest %s, want %s", received, sent)
	}
	to.await(patience, "transfer.files.length === 1 && transfer.files[0].fileName === 'large.bin' && transfer.files[0].blob.type === 'application/zip'")
	for _, m := range []*member{from, to} {
		m.await(patience, "!transfer.events.some(({ name }) => ['error', 'data error', 'otherDisconnectChannel'].includes(name))")
	}
	t.Logf("%d MiB in %v, %.1f MiB/s; the receiving browser took at most %d MiB more than the %d when idle", mib, took.Round(time.Millisecond), float64(mib)/took.Seconds(), most, idle)
	if long != "" && most > 300 {
		t.Errorf("the receiving browser took %d MiB more than when idle, want at most 300", most)
	}
}

// memoryMiB is what a browser's processes have for themselves, and their share of the rest.
func memoryMiB(t testing.TB, b *browser.Browser) int {
	t.Helper()
	bytes, err := b.MemoryBytes()
	if err != nil {
		t.Fatal(err)
	}
	return int(bytes >> 20)
}

// TestPlayRTCFileSpeed compares our way to send with a bare data channel's and with the old SDK's, on one connection, one after the other. With
// MADANG_PLAYRTC_SPEED it measures for longer and also at a round trip of 50 ms, and holds the goals.
func TestPlayRTCFileSpeed(t *testing.T) {
	if testing.Short() || os.Getenv("MADANG_PLAYRTC_SPEED") == "" {
		t.Skip("takes minutes of a quiet machine: set MADANG_PLAYRTC_SPEED")
	}
	measure := func(t *testing.T, from, to *member, mib int, times float64) {
		connectEnds(from, to)
		to.do(patience, "transfer.count()", nil)
		from.do(patience, fmt.Sprintf("await transfer.file(%d * 1048576)", mib), nil)
		var bare, ours, old []float64
		for range 3 {
			var rate float64
			from.do(time.Hour, fmt.Sprintf("return transfer.bare(%d * 1048576)", mib), &rate)
			bare = append(bare, rate)
			from.do(time.Hour, fmt.Sprintf("return transfer.sdk(%d * 1048576)", mib), &rate)
			ours = append(ours, rate)
			from.do(time.Hour, "return transfer.original(2 * 1048576)", &rate)
			old = append(old, rate)
		}
		best := func(rates []float64) float64 { return max(rates[0], rates[1], rates[2]) }
		t.Logf("MiB/s, best of 3: bare %.2f %.2f, ours %.2f %.2f, old %.2f %.2f: %.0f %% of bare, %.1f times the old way",
			best(bare), bare, best(ours), ours, best(old), old, 100*best(ours)/best(bare), best(ours)/best(old))
		if best(ours) < 0.85*best(bare) || best(ours) < times*best(old) {
			t.Errorf("want 85 %% of bare, and %.1f times the old way", times)
		}
	}
	t.Run("loopback", func(t *testing.T) {
		node := serve(t, lab.NodeConfig{})
		site := strings.Replace(playrtcSite(t, node), "127.0.0.1", "localhost", 1)
		from := transferEnd(t, browser.Start(t, browser.Chromium, browser.Options{}), site+"/transfer.html", node.HTTP, "sender")
		to := transferEnd(t, browser.Start(t, browser.Chromium, browser.Options{}), site+"/transfer.html", node.HTTP, "receiver")
		measure(t, from, to, 24, 3.5)
	})
	t.Run("50 ms", func(t *testing.T) {
		l := lab.New(t)
		server := l.Server()
		node := serve(t, lab.NodeConfig{Namespace: server.Namespace, Listen: server.Addr4.String() + ":8080", UDP: server.Addr4.String() + ":3478"})
		script, err := playrtcFiles.ReadFile("playrtc/transfer.js")
		if err != nil {
			t.Fatal(err)
		}
		open := func(name string) *member {
			h := l.Host(name, lab.HostConfig{Kind: lab.Open, Link: &linkem.Config{Delay: 12_500 * time.Microsecond}})
			b := browser.Start(t, browser.Chromium, browser.Options{Namespace: h.Namespace, SecureOrigins: []string{node.HTTP}})
			m := &member{b.Open(t, node.HTTP+"/docs/"), t, name}
			m.do(patience, fmt.Sprintf("%s; await transfer.load(%s); transfer.make(%s)", script, js(node.HTTP), js(sandboxKey)), nil)
			return m
		}
		measure(t, open("sender"), open("receiver"), 24, 2)
	})
}
