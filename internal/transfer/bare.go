package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/signal"
)

// A Bare is one end of a lane's data channel without the protocol above it: messages of the caller's, neither hashed nor written. For measuring what the stack itself can do, and
// for trying it with other stacks. Descriptions carry all candidates.
type Bare struct {
	pc   *webrtc.PeerConnection
	open chan *rtcLane
	lane *rtcLane
}

// NewBare makes an end, set up as that of a lane. Addresses of loopback interfaces count.
func NewBare() (*Bare, error) {
	cert, err := NewCertificate()
	if err != nil {
		return nil, err
	}
	pc, dc, err := newPeerConnection(cert, signal.ICE{}, true)
	if err != nil {
		return nil, err
	}
	b := &Bare{pc: pc, open: make(chan *rtcLane, 1)}
	dc.OnOpen(func() {
		if l, err := newRTCLane(pc, dc); err == nil {
			b.open <- l
		}
	})
	return b, nil
}

func (b *Bare) describe(d webrtc.SessionDescription, err error) (sdp string, _ error) {
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(d); err != nil {
		return "", err
	}
	<-gathered
	return b.pc.LocalDescription().SDP, nil
}

// Offer begins.
func (b *Bare) Offer() (sdp string, err error) { return b.describe(b.pc.CreateOffer(nil)) }

// Answer takes the other end's offer.
func (b *Bare) Answer(offer string) (sdp string, err error) {
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	return b.describe(b.pc.CreateAnswer(nil))
}

// Accept takes the other end's answer.
func (b *Bare) Accept(answer string) error {
	return b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

// Open waits until messages may be sent. Send and Recv end with ctx.
func (b *Bare) Open(ctx context.Context) error {
	select {
	case b.lane = <-b.open:
		context.AfterFunc(ctx, b.Close)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send blocks while too much is queued.
func (b *Bare) Send(data []byte) error { return b.lane.Send(false, nil, data) }

// Recv returns the next message; it is the caller's until the next call.
func (b *Bare) Recv() ([]byte, error) {
	_, data, err := b.lane.Recv()
	return data, err
}

// Close ends it at once.
func (b *Bare) Close() { closeICE(b.pc) }

// RawDataChannel measures what a lane's data channel carries between two connections of this process. The time counts from the first byte to the last.
func RawDataChannel(ctx context.Context, size int64) (took time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, err := NewBare()
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := NewBare()
	if err != nil {
		return 0, err
	}
	defer to.Close()
	offer, err := from.Offer()
	if err != nil {
		return 0, err
	}
	answer, err := to.Answer(offer)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(from.Accept(answer), from.Open(ctx), to.Open(ctx)); err != nil {
		return 0, err
	}
	started := time.Now()
	sent := make(chan error, 1)
	go func() { // ends with the lane, and is waited for
		zeros := make([]byte, 64<<10)
		for left := size; left > 0; left -= int64(len(zeros)) {
			if err := from.Send(zeros[:min(left, int64(len(zeros)))]); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for left := size; left > 0 && err == nil; {
		var data []byte
		data, err = to.Recv()
		left -= int64(len(data))
	}
	took = time.Since(started)
	if err != nil {
		from.lane.Close()
	}
	if sending := <-sent; sending != nil && !errors.Is(sending, io.ErrClosedPipe) {
		err = errors.Join(err, sending)
	}
	return took, err
}
