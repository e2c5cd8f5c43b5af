package transfer

import (
	"crypto/sha256"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A slowStream takes its time to write, in the way of a slow link.
type slowStream struct {
	net.Conn
	bytesPerSecond int
}

func (s slowStream) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		piece := b[:min(len(b), 1400)]
		time.Sleep(time.Duration(len(piece)) * time.Second / time.Duration(s.bytesPerSecond))
		var m int
		m, err = s.Conn.Write(piece)
		n, b = n+m, b[len(piece):]
	}
	return n, err
}

// earshot notes the longest time in which nothing was heard.
type earshot struct {
	last    time.Time
	longest time.Duration
	blocks  int
}

func (e *earshot) hear() {
	e.longest, e.last = max(e.longest, time.Since(e.last)), time.Now()
}
func (e *earshot) onPart(*port)                    { e.hear() }
func (e *earshot) onMessage(*port, *message) error { return nil }
func (e *earshot) onHashes(*port, *hashList) error { return nil }
func (e *earshot) onCorrupt(*port, block) error    { return nil }
func (e *earshot) onBlock(*port, block, Hash, []byte) error {
	e.hear()
	e.blocks++
	return nil
}

// TestASlowLaneIsHeardBeforeItsBlockIsWhole: at 6 KB/s a block takes 43 s, and a lane on which nothing is heard for 15 s is ended.
func TestASlowLaneIsHeardBeforeItsBlockIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		from, to := newPort(1, newStreamLane(slowStream{near, 6_000}, "slow")), newPort(1, newStreamLane(far, "slow"))
		heard := &earshot{last: time.Now()}
		done := make(chan error)
		go func() { done <- to.read(heard) }()
		data := make([]byte, BlockSize)
		if err := from.sendBlock(&outBlock{block{0, 0}, sha256.Sum256(data), data}); err != nil {
			t.Fatal(err)
		}
		near.Close()
		<-done
		if heard.blocks != 1 || heard.longest >= laneDead {
			t.Errorf("%d blocks; nothing was heard for %v, and a lane is dead after %v", heard.blocks, heard.longest, laneDead)
		}
	})
}

// TestALaneThatIsHeardLives: what is heard of a block counts, though it is not whole.
func TestALaneThatIsHeardLives(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, heard := range []bool{true, false} {
		f := newFetcher(nil)
		f.addLane(now, 1, "A", true)
		if err := f.message(now, 1, &message{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: new(int64(1 << 20))}}, Last: true}); err != nil {
			t.Fatal(err)
		}
		f.accept(now, nil)
		if err := f.message(now, 1, &message{Type: typeAccepted}); err != nil {
			t.Fatal(err)
		}
		closed := false
		for range 4 {
			now = now.Add(laneDead * 2 / 3)
			if heard {
				f.heard(now, 1)
			}
			f.tick(now)
			for _, a := range f.take() {
				closed = closed || a.kind == doClose
			}
		}
		if closed == heard {
			t.Errorf("heard: %v, ended: %v", heard, closed)
		}
	}
}
