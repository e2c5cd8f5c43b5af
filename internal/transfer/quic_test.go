package transfer

import (
	"net"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/signal"
)

// TestAPathThatIsNotNeededHoldsNobodyUp: pion's ICE agent waits for its TURN allocations when it is closed, and where UDP is blocked nothing answers them for 8 s.
func TestAPathThatIsNotNeededHoldsNobodyUp(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	m := &meeting{loopback: true, ice: signal.ICE{Servers: []signal.ICEServer{{URLs: []string{"turn:" + silent.LocalAddr().String() + "?transport=udp"}, Username: "u", Credential: "c"}}}}
	path, err := (&native{m: m}).newICEPath(&conn{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := silent.ReadFrom(make([]byte, 1500)); err != nil { // it has begun to ask
		t.Fatal(err)
	}
	started := time.Now()
	path.release(nil)
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}
