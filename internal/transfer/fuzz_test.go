package transfer

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net"
	"regexp"
	"strings"
	"testing"
)

// Bytes from outside: parsers must not panic, and what they accept must be what the encoder writes, or within the bounds of docs/transfer.md §12.

func FuzzParseMessage(f *testing.F) {
	for _, m := range readVectors(f).Messages {
		f.Add([]byte(m.Message))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMessage(data)
		if err != nil {
			return
		}
		for _, e := range m.Entries {
			if m.Type == typeManifest && checkPath(e.Path) != nil {
				t.Errorf("the path %q was taken", e.Path)
			}
		}
		if again, err := parseMessage(m.encode()); len(m.encode()) <= maxJSON && (err != nil || again.Type != m.Type || len(again.Blocks) != len(m.Blocks)) {
			t.Errorf("%q is written as %q: %v", data, m.encode(), err)
		}
	})
}

func FuzzParseBinary(f *testing.F) {
	v := readVectors(f)
	for _, p := range v.Parts {
		f.Add([]byte(p.Bytes))
	}
	f.Add([]byte(v.Hashes.Bytes))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, list, err := parseBinary(data)
		switch {
		case err != nil:
		case p != nil:
			if p.Offset+len(p.Data) > p.Length || p.Length > BlockSize {
				t.Errorf("part %+v", p)
			}
			if again := append(p.appendHeader(nil), p.Data...); !bytes.Equal(again, data) {
				t.Errorf("%x is written as %x", data, again)
			}
		case !bytes.Equal(list.encode(), data):
			t.Errorf("%x is written as %x", data, list.encode())
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	for _, frame := range readVectors(f).Frames {
		f.Add([]byte(frame.Bytes))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, got, err := readFrame(bytes.NewReader(data), nil)
		if err == nil && !bytes.HasPrefix(data, append(appendFrameHeader(nil, text, len(got)), got...)) {
			t.Errorf("%x was read as %x", data, got)
		}
	})
}

// sdpFingerprint is how any stack may read a description: each line, however it ends, that begins with the attribute after white space, in any case.
var sdpFingerprint = regexp.MustCompile(`(?i)(?:^|[\r\n])[ \t\v\f]*a=fingerprint([^\r\n]*)`)

func FuzzFingerprint(f *testing.F) {
	for _, v := range readVectors(f).Fingerprints {
		f.Add(v.SDP)
	}
	one := "a=fingerprint:sha-256 " + strings.Repeat("00:", 31) + "00"
	for _, more := range []string{"\ra=fingerprint:sha-1 00", "\r\n A=Fingerprint:sha-256 11", "\n" + strings.Replace(one, "00", "01", 1), "\r\n\t" + one, "\na=fingerprint"} {
		f.Add(one + more)
		f.Add(more + "\r\n" + one)
	}
	f.Fuzz(func(t *testing.T, sdp string) {
		got, err := fingerprint(sdp)
		if err != nil {
			return
		}
		want := ":sha-256 " + strings.ToUpper(hex.EncodeToString(got[:]))
		lines := sdpFingerprint.FindAllStringSubmatch(sdp, -1)
		for _, line := range lines {
			if algorithm, digits, _ := strings.Cut(line[1], " "); algorithm+" "+strings.ToUpper(strings.ReplaceAll(digits, ":", "")) != want {
				t.Errorf("%q was read as %x, and says %q too", sdp, got, line[1])
			}
		}
		if len(lines) == 0 {
			t.Errorf("%q was read as %x", sdp, got)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	for _, v := range readVectors(f).Links {
		f.Add(v.Link)
	}
	f.Fuzz(func(t *testing.T, link string) {
		server, ticket, err := ParseLink(link)
		if err != nil {
			return
		}
		if _, again, err := ParseLink(ticket.Link(server)); err != nil || again != ticket {
			t.Errorf("%q is written as %q", link, ticket.Link(server))
		}
	})
}

func FuzzParseCode(f *testing.F) {
	for _, v := range readVectors(f).Codes {
		f.Add(v.Written)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := ParseCode(s); ok {
			if again, ok := ParseCode(c.String()); !ok || again != c {
				t.Errorf("%q is written as %q", s, c)
			}
		}
	})
}

// FuzzReadRecords: a journal is what a crash has left.
func FuzzReadRecords(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, recordEnd, []byte("AAAAAAAAAAAAAAAAAAAAAA")), recordBlocks, make([]byte, 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		good := readRecords(bytes.NewReader(data), func(kind byte, content []byte) { again = appendRecord(again, kind, content) })
		if !bytes.Equal(again, data[:good]) {
			t.Errorf("%x was read as %x", data[:good], again)
		}
	})
}

func FuzzNativeText(f *testing.F) {
	m := readVectors(f).MAC
	f.Add(m.TextOffer)
	f.Add(m.TextAnswer)
	cert, err := NewCertificate()
	if err != nil {
		f.Fatal(err)
	}
	n := &native{m: &meeting{cert: cert}}
	f.Fuzz(func(t *testing.T, text string) {
		got, h, err := n.parse(text)
		if err != nil {
			return
		}
		var said map[string]any // any client's reading
		if json.Unmarshal([]byte(text), &said) != nil || len(got.TCP) > 16 || h == certificateHash(cert) {
			t.Errorf("%q was read as %+v", text, got)
		}
		if b, err := base64.RawURLEncoding.DecodeString(got.Fingerprint); err != nil || !bytes.Equal(b, h[:]) {
			t.Errorf("the fingerprint %q was read as %x", got.Fingerprint, h)
		}
		for _, a := range got.TCP {
			if host, port, err := net.SplitHostPort(a); err != nil || port == "" || net.ParseIP(strings.SplitN(host, "%", 2)[0]) == nil {
				t.Errorf("%q was taken for an address", a)
			}
		}
	})
}

// FuzzCodeMessage: what somebody in a code's channel says, to both sides.
func FuzzCodeMessage(f *testing.F) {
	code := Code{"417", "maple-otter"}
	_, first := code.redeem()
	f.Add([]byte(`{"code":{"step":1,"sid":"` + first.SID + `","y":"` + first.Y + `"}}`))
	f.Add([]byte(`{"code":{"step":3,"confirm":""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, ok := readCodeMessage(data)
		if !ok {
			return
		}
		if x, _, err := code.answer(m); err == nil {
			if _, err := x.seal(m, Ticket{}); err == nil {
				t.Error("the link was sold to somebody without the words")
			}
		}
	})
}
