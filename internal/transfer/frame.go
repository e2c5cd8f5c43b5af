package transfer

import (
	"encoding/binary"
	"errors"
	"io"
)

// On a stream (TCP, QUIC) a message is its length, its kind, and its bytes (docs/transfer.md §14).
const frameHeader = 5

func appendFrameHeader(b []byte, text bool, n int) []byte {
	kind := byte(1)
	if text {
		kind = 0
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(n)), kind)
}

var errFrame = errors.New("the other side's frame is not valid")

// readFrame reads one message into buf, or into a larger one.
func readFrame(r io.Reader, buf []byte) (text bool, data []byte, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return false, nil, err
	}
	n := binary.BigEndian.Uint32(header[:])
	if n > maxMessage+partHeader || header[4] > 1 {
		return false, nil, errFrame
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err = io.ReadFull(r, buf)
	return header[4] == 0, buf, err
}
