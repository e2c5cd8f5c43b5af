//go:build linux

package test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/bench/measure"
	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
	"github.com/madang-rtc/madang/internal/lab/linkem"
	"github.com/madang-rtc/madang/internal/transfer"
)

// The speeds that docs/benchmarks.md reports. They take minutes, and are for people: what is compared alternates within one run, and the best of all rounds counts.

// A bareEnd is one side of a bare data channel: without a server, hashes or disks, it shows what the two stacks themselves can do.
type bareEnd interface {
	offer() string
	answer(sdp string) string
	accept(sdp string)
	ready()
	// flood sends for so long; received says how many bytes have come.
	flood(d time.Duration)
	received() int64
	close()
}

// connectBare opens a bare data channel between both.
func connectBare(from, to bareEnd) {
	to.accept(from.answer(to.offer()))
	from.ready()
	to.ready()
}

// bareRate is what a bare data channel carries, in bytes a second.
func bareRate(t *testing.T, from, to bareEnd, d time.Duration) float64 {
	t.Helper()
	connectBare(from, to)
	defer from.close()
	defer to.close()
	from.flood(d / 4) // slow start, and the connection before it
	before, started := to.received(), time.Now()
	from.flood(d)
	return float64(to.received()-before) / time.Since(started).Seconds()
}

type barePage struct{ *member }

func (b barePage) offer() (sdp string) {
	b.do(patience, "return end.raw.offer()", &sdp)
	return sdp
}

func (b barePage) answer(offer string) (sdp string) {
	b.do(patience, fmt.Sprintf("return end.raw.answer(%s)", js(offer)), &sdp)
	return sdp
}

func (b barePage) accept(answer string) {
	b.do(patience, fmt.Sprintf("await end.raw.accept(%s)", js(answer)), nil)
}

func (b barePage) ready() { b.await(patience, `end.raw.channel.readyState === "open"`) }

func (b barePage) flood(d time.Duration) {
	b.do(patience+d, fmt.Sprintf("await end.raw.flood(%d)", d.Milliseconds()), nil)
}

func (b barePage) received() (n int64) {
	b.do(patience, "return end.raw.bytes", &n)
	return n
}

func (b barePage) close() { b.shut() }

// A bareGo is a peer of our own stack, set up as the program's lanes are.
type bareGo struct {
	t     *testing.T
	end   *transfer.Bare
	count *atomic.Int64
}

func (b *bareGo) make() {
	b.t.Helper()
	made, err := transfer.NewBare()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(made.Close)
	b.end, b.count = made, new(atomic.Int64)
}

// ready waits for the channel, and counts what comes from then on.
func (b *bareGo) ready() {
	made, count := b.end, b.count
	if err := made.Open(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	go func() { // ends with the channel
		for {
			data, err := made.Recv()
			if err != nil {
				return
			}
			count.Add(int64(len(data)))
		}
	}()
}

func (b *bareGo) offer() string {
	b.make()
	sdp, err := b.end.Offer()
	if err != nil {
		b.t.Fatal(err)
	}
	return sdp
}

func (b *bareGo) answer(offer string) string {
	b.make()
	sdp, err := b.end.Answer(offer)
	if err != nil {
		b.t.Fatal(err)
	}
	return sdp
}

func (b *bareGo) accept(answer string) {
	if err := b.end.Accept(answer); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bareGo) flood(d time.Duration) {
	zeros := make([]byte, 64<<10)
	for until := time.Now().Add(d); time.Now().Before(until); {
		if err := b.end.Send(zeros); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bareGo) received() int64 { return b.count.Load() }

func (b *bareGo) close() { b.end.Close() }

// A speedEnd sends or receives files, and is an end of a bare data channel too. Each time it is a page of its own, so that none has the garbage of another.
type speedEnd struct {
	browser *browser.Browser // nil: the command line
	server  string
}

func (e speedEnd) open(t *testing.T) *member {
	return newEnd(t, e.browser, e.server, string(e.browser.Engine))
}

func (e speedEnd) bare(t *testing.T) bareEnd {
	if e.browser != nil {
		return barePage{e.open(t)}
	}
	return &bareGo{t: t}
}

func (m *member) shut() {
	m.t.Helper()
	if err := m.Close(within(m.t, patience)); err != nil {
		m.t.Fatal(err)
	}
}

// memoryBytes is what all processes of both browsers use.
func memoryBytes(t *testing.T, ends [2]speedEnd) (all int64) {
	t.Helper()
	for _, e := range ends {
		if e.browser == nil {
			continue
		}
		of, err := e.browser.MemoryBytes()
		if err != nil {
			t.Fatal(err)
		}
		all += of
	}
	return all
}

// TestFilesAtFullSpeed compares a transfer, hashed and on the disk, with a bare data channel of the same two ends, and says what it costs all processes of both browsers in
// memory. Between two pages of Chromium it is 1 GiB, once; MADANG_TRANSFER_MIB says how much it is between all pairs, three times.
func TestFilesAtFullSpeed(t *testing.T) {
	pairs, mib, rounds := [][2]string{{"Chromium", "Chromium"}}, 1024, 1
	if asked, err := strconv.Atoi(os.Getenv("MADANG_TRANSFER_MIB")); err == nil {
		mib, rounds = asked, 3
		pairs = append(pairs, [][2]string{{"Go", "Chromium"}, {"Chromium", "Go"}, {"Firefox", "Chromium"}, {"Chromium", "Firefox"}, {"Go", "Firefox"}, {"Firefox", "Go"}}...)
		if mib >= 4096 {
			rounds = 1
		}
	}
	size := int64(mib) << 20
	for _, pair := range pairs {
		t.Run(pair[0]+"-"+pair[1], func(t *testing.T) {
			node := serve(t, lab.NodeConfig{})
			var ends [2]speedEnd
			for i, name := range pair {
				ends[i].server = node.HTTP
				if name != "Go" {
					// With a profile of its own on the disk: a page in a context of its own keeps its private file system in memory.
					engine := map[string]browser.Engine{"Chromium": browser.Chromium, "Firefox": browser.Firefox}[name]
					ends[i].browser = browser.Start(t, engine, browser.Options{Profile: t.TempDir()})
				}
			}
			var file, want string
			if pair[0] == "Go" {
				file = filepath.Join(t.TempDir(), "film.mkv")
				sum := randomFile(t, file, size, 5)
				want = hex.EncodeToString(sum[:])
			}
			bareNow := func() float64 { return bareRate(t, ends[0].bare(t), ends[1].bare(t), 5*time.Second) }
			var most int64
			var speeds, bares, shares []float64
			before := bareNow()
			for range rounds {
				speed, more := fileRate(t, ends, size, file, want)
				after := bareNow()
				bare := (before + after) / 2 // the machine's own pace changes meanwhile
				before = after
				t.Logf("%d MiB: %.1f MiB/s, a bare data channel before and after it %.1f MiB/s (%.0f %%); the browsers took at most %d MiB more than with freshly loaded pages",
					mib, speed/(1<<20), bare/(1<<20), 100*speed/bare, more>>20)
				speeds, bares, shares = append(speeds, speed), append(bares, bare), append(shares, speed/bare)
				most = max(most, more)
			}
			share := median(shares)
			t.Logf("medians: %.1f MiB/s, bare %.1f MiB/s (%.0f %%); at most %d MiB more memory", median(speeds)/(1<<20), median(bares)/(1<<20), 100*share, most>>20)
			if share < 0.8 {
				t.Errorf("%.0f %% of a bare data channel, want 80 %%", 100*share)
			}
			if most > 200<<20 {
				t.Errorf("%d MiB more memory than with freshly loaded pages, want at most 200", most>>20)
			}
		})
	}
}

// median is the middle one, or the upper of the two.
func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// fileRate sends a file from end to end. It measures from the receiver's consent to the verified file, and what the browsers take more than before it.
func fileRate(t *testing.T, ends [2]speedEnd, size int64, file, want string) (rate float64, more int64) {
	t.Helper()
	var from, to *member
	if ends[0].browser != nil {
		from = ends[0].open(t)
		defer from.shut()
	}
	if ends[1].browser != nil {
		to = ends[1].open(t)
		defer to.shut()
	}
	idle := memoryBytes(t, ends)
	var link string
	var sender *end
	if from != nil {
		// Of one piece many times: the file itself is no memory.
		from.do(patience, fmt.Sprintf(`const piece = end.makeFile("piece", 1 << 20);
			const film = new File(Array.from({ length: %d }, () => piece), "film.mkv");
			end.sending = await end.sdk.sendFiles([{ path: "film.mkv", file: film }], { server: location.origin });
			return end.sending.link;`, size>>20), &link)
	} else {
		sender = send(t, t.TempDir(), ends[0].server, file, "--no-code")
		link = sender.link()
	}
	watch := func() { more = max(more, memoryBytes(t, ends)-idle) }
	started := time.Now()
	deadline := started.Add(time.Minute + time.Duration(size>>20)*time.Second/2)
	if to != nil {
		to.receive(link)
		started = time.Now()
		to.do(patience, "await end.receiving.accept()", nil)
		for done := false; !done; {
			watch()
			to.do(patience, `await new Promise((resolve) => setTimeout(resolve, 500)); if (end.error) throw new Error(end.error); return end.arrived()`, &done)
			if time.Now().After(deadline) {
				t.Fatalf("%s: not done at 2 MiB/s: %s", to.name, to.state())
			}
		}
		rate = float64(size) / time.Since(started).Seconds()
		if want != "" {
			var got [][2]string
			to.do(4*patience, "return end.received()", &got)
			if len(got) != 1 || got[0][1] != want {
				t.Errorf("another file has arrived: %v", got)
			}
		}
		to.do(patience, "await end.receiving.discard?.()", nil)
	} else {
		out := t.TempDir()
		r := startEnd(t, t.TempDir(), "receive", link, out)
		for done := false; !done; {
			watch()
			select {
			case <-r.process.Done():
				done = true
			case <-time.After(500 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatal("not done at 2 MiB/s")
			}
		}
		rate = float64(size) / time.Since(started).Seconds()
		r.succeeds()
	}
	if sender != nil {
		sender.succeeds()
	}
	return rate, more
}

// state says how far a page's transfer has come, for the message of a test that fails.
func (m *member) state() (text string) {
	m.do(patience, `const r = end.receiving; return JSON.stringify({ bytes: r?.bytes, arrived: r?.arrivedBytes, accepted: r?.accepted, files: r?.files })`, &text)
	return text
}

// TestFilesFasterThanWormhole sends one large file from a program to another on one machine, beside wormhole-william, which does the same over a mailbox and a relay of its own; all
// of it in a network namespace, so that nothing leaves the machine. MADANG_TRANSFER_MIB changes the size of 10 GiB.
func TestFilesFasterThanWormhole(t *testing.T) {
	if os.Getenv("MADANG_TEST_LONG") == "" {
		t.Skip("set MADANG_TEST_LONG to run it")
	}
	rival, err := exec.LookPath("wormhole-william")
	if err != nil || exec.Command("/usr/bin/python3", "-c", "import wormhole_mailbox_server, wormhole_transit_relay").Run() != nil {
		t.Skip("needs the Debian packages wormhole-william, python3-magic-wormhole-mailbox-server and magic-wormhole-transit-relay")
	}
	size := int64(10 << 30)
	if mib, err := strconv.Atoi(os.Getenv("MADANG_TRANSFER_MIB")); err == nil {
		size = int64(mib) << 20
	}
	n := newNetwork(t)
	a := n.Host("a", lab.HostConfig{Kind: lab.Open})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	// Sparse: reading it costs neither side a disk, and what arrives is written whole.
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	want := hashFile(t, file)

	// The rival's relay has a name that is built in: in its mount namespace that is this machine.
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost transit.magic-wormhole.io\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	start := func(stdin, folder string, command ...string) (*lab.Process, *lab.Tail) {
		t.Helper()
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts}, command...)...)
		log := &lab.Tail{}
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = folder, strings.NewReader(stdin), log, log
		p, err := a.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p, log
	}
	listens := func(address string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			c, err := a.DialContext(t.Context(), "tcp", address)
			if err == nil {
				c.Close()
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	start("", dir, "/usr/bin/twist3", "wormhole-mailbox", "--port=tcp:4000:interface=127.0.0.1", "--channel-db="+filepath.Join(dir, "mailbox.db"))
	start("", dir, "/usr/bin/twist3", "transitrelay", "--port=tcp:4001:interface=127.0.0.1")
	listens("127.0.0.1:4000")
	listens("127.0.0.1:4001")

	cost := func(name string, sender, receiver func() measure.Usage) (most float64) {
		s, r := sender(), receiver()
		gib := float64(size) / (1 << 30)
		t.Logf("%s: sender %.2f CPU seconds a GiB, at most %.0f MiB; receiver %.2f, %.0f MiB", name, s.CPU.Seconds()/gib, measure.MiB(s.RSS), r.CPU.Seconds()/gib, measure.MiB(r.RSS))
		return measure.MiB(max(s.RSS, r.RSS))
	}
	wormhole := func() time.Duration {
		out := t.TempDir()
		defer os.RemoveAll(out)
		sender, said := start("", dir, rival, "send", "--hide-progress", "--relay-url", "ws://127.0.0.1:4000/v1", "--code", "7-quick-otter", file)
		for deadline := time.Now().Add(patience); !strings.Contains(said.String(), "7-quick-otter"); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("wormhole-william does not send: %s", said)
			}
		}
		started := time.Now()
		sending := watch(sender)
		receiver, log := start("y\n", out, rival, "receive", "--hide-progress", "--relay-url", "ws://127.0.0.1:4000/v1", "7-quick-otter")
		receiving := watch(receiver)
		if err := receiver.Err(); err != nil {
			t.Fatalf("wormhole-william: %v\n%s\n%s", err, log, said)
		}
		took := time.Since(started)
		sender.Kill()
		cost("wormhole-william", sending, receiving)
		if hashFile(t, filepath.Join(out, "file")) != want {
			t.Error("another file has arrived")
		}
		return took
	}
	ours := func() time.Duration {
		out := t.TempDir()
		defer os.RemoveAll(out)
		env := []string{"SSL_CERT_FILE=" + n.certificate.CertFile}
		s := startEndOn(t, a.Namespace, env, t.TempDir(), "send", file, "--no-code", "--server", n.site(a))
		s.ready = s.until("ready")
		started := time.Now()
		sending := watch(s.process)
		r := startEndOn(t, a.Namespace, env, t.TempDir(), "receive", s.link(), out)
		receiving := watch(r.process)
		<-r.process.Done()
		took := time.Since(started)
		r.succeeds()
		s.succeeds()
		if most := cost("madang", sending, receiving); most > 160 {
			t.Errorf("%.0f MiB of memory were used, whatever the size", most)
		}
		if hashFile(t, filepath.Join(out, "file")) != want {
			t.Error("another file has arrived")
		}
		return took
	}
	rate := func(d time.Duration) float64 { return float64(size) / (1 << 20) / d.Seconds() }
	us, them := ours(), wormhole()
	t.Logf("%d MiB: madang %.1f MiB/s, wormhole-william %.1f MiB/s (%.2f times)", size>>20, rate(us), rate(them), them.Seconds()/us.Seconds())
	if us > them {
		t.Errorf("slower than wormhole-william: %v, %v", us, them)
	}
}

// TestTransferOverLongPaths compares with plain TCP, and with one SCTP association, which is what other tools have, over the same emulated path.
func TestTransferOverLongPaths(t *testing.T) {
	if os.Getenv("MADANG_TEST_LONG") == "" {
		t.Skip("set MADANG_TEST_LONG to run it")
	}
	iperf, err := exec.LookPath("iperf3")
	if err != nil {
		t.Skip("needs iperf3")
	}
	const rounds = 3
	for _, link := range []linkem.Config{{Delay: 50 * time.Millisecond}, {Delay: 50 * time.Millisecond, Loss: 0.001, Seed: 1}} {
		t.Run(fmt.Sprintf("100 ms, loss %g", link.Loss), func(t *testing.T) {
			n := newNetwork(t)
			a := n.Host("a", lab.HostConfig{Kind: lab.Open, Link: &link})
			b := n.Host("b", lab.HostConfig{Kind: lab.Open})
			best := map[string]float64{}
			ways := []struct {
				name string
				rate func() float64 // Mbit/s
			}{
				{"one TCP stream", func() float64 { return iperfRate(t, iperf, a, b) }},
				{"auto", func() float64 { return pathRate(t, n, a, b, 96, "auto") }},
				{"quic", func() float64 { return pathRate(t, n, a, b, 24, "quic") }},
				{"webrtc", func() float64 { return pathRate(t, n, a, b, 24, "webrtc") }},
				{"one association", func() float64 { return pathRate(t, n, a, b, 8, "webrtc", "--max-lanes", "1") }},
			}
			for range rounds {
				for _, way := range ways {
					rate := way.rate()
					t.Logf("%s: %.1f Mbit/s", way.name, rate)
					best[way.name] = max(best[way.name], rate)
				}
			}
			t.Logf("best of %d: %v", rounds, best)
			if best["auto"] < best["one TCP stream"]/2 {
				t.Errorf("%.0f %% of one TCP stream, want 50 %%", 100*best["auto"]/best["one TCP stream"])
			}
			if best["auto"] < 3*best["one association"] {
				t.Errorf("%.1f times one association, want 3", best["auto"]/best["one association"])
			}
		})
	}
	t.Run("browsers, 100 ms, loss 0.001", func(t *testing.T) {
		n := newNetwork(t)
		a := n.Host("a", lab.HostConfig{Kind: lab.Open, Link: &linkem.Config{Delay: 50 * time.Millisecond, Loss: 0.001, Seed: 1}})
		b := n.Host("b", lab.HostConfig{Kind: lab.Open})
		var ends [2]speedEnd
		for i, host := range []*lab.Host{a, b} {
			ends[i] = speedEnd{n.browser(t, browser.Chromium, host), n.site(host)}
		}
		const mib = 24
		var bare, speed float64
		for range rounds {
			bare = max(bare, bareRate(t, ends[0].bare(t), ends[1].bare(t), 12*time.Second))
			rate, _ := fileRate(t, ends, mib<<20, "", "")
			speed = max(speed, rate)
			t.Logf("%.1f Mbit/s, one association %.1f Mbit/s", speed*8e-6, bare*8e-6)
		}
		if speed < 2*bare {
			t.Errorf("%.1f times one association, want 2", speed/bare)
		}
	})
}

// iperfRate is what one TCP stream carries from a to b, in Mbit/s.
func iperfRate(t *testing.T, iperf string, a, b *lab.Host) float64 {
	t.Helper()
	server, err := b.Start(exec.Command(iperf, "-s", "-1"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	var out bytes.Buffer
	client := exec.Command(iperf, "-c", b.Addr4.String(), "-t", "6", "-J")
	client.Stdout = &out
	process, err := a.Start(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Err(); err != nil {
		t.Fatal(err)
	}
	var plain struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out.Bytes(), &plain); err != nil {
		t.Fatal(err)
	}
	return plain.End.Received.BitsPerSecond / 1e6
}

// pathRate is what madang receive gets from madang send, from its start to its end, in Mbit/s.
func pathRate(t *testing.T, n *network, a, b *lab.Host, mib int64, lanes string, more ...string) float64 {
	t.Helper()
	dir := t.TempDir()
	randomFile(t, filepath.Join(dir, "file"), mib<<20, 5)
	env := []string{"SSL_CERT_FILE=" + n.certificate.CertFile}
	s := startEndOn(t, a.Namespace, env, t.TempDir(), "send", filepath.Join(dir, "file"), "--no-code", "--server", n.site(a), "--lanes", lanes)
	s.ready = s.until("ready")
	started := time.Now()
	r := startEndOn(t, b.Namespace, env, t.TempDir(), append([]string{"receive", s.link(), t.TempDir(), "--lanes", lanes}, more...)...)
	for deadline := started.Add(5 * time.Minute); ; {
		select {
		case <-r.process.Done():
			took := time.Since(started)
			r.succeeds()
			s.succeeds()
			return float64(mib<<23) / 1e6 / took.Seconds()
		case <-time.After(time.Until(deadline)):
			t.Fatalf("%s: not done in five minutes", lanes)
		}
	}
}
