package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gtank/ristretto255"

	"github.com/madang-rtc/madang/internal/depot"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const vectorFile = "testdata/vectors.json"

type hexBytes []byte

func (h hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }
func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var err error
	*h, err = hex.DecodeString(s)
	return err
}

// vectors are for every implementation of docs/transfer.md. What a test gives is computed from what it says.
type vectors struct {
	Comment string `json:"comment"`
	Links   []struct {
		Link   string   `json:"link"`
		Valid  bool     `json:"valid"`
		Server string   `json:"server,omitempty"`
		ID     string   `json:"id,omitempty"`
		Secret hexBytes `json:"secret,omitempty"`
	} `json:"links"`
	Codes []struct {
		Written string `json:"written"`
		Code    string `json:"code"` // empty: not a code
	} `json:"codes"`
	CPaceDraft struct {
		Source string              `json:"source"`
		Values map[string]hexBytes `json:"values"`
	} `json:"cpaceDraft"`
	CPace struct {
		Code    string   `json:"code"`
		SID     hexBytes `json:"sid"`
		ScalarA hexBytes `json:"scalarA"` // little-endian, as ristretto255 has it
		ScalarB hexBytes `json:"scalarB"`
		Ya      hexBytes `json:"ya"`
		Yb      hexBytes `json:"yb"`
		ISK     hexBytes `json:"isk"`
		Confirm string   `json:"confirm"`
		ID      string   `json:"id"`
		Secret  string   `json:"secret"`
		Link    string   `json:"link"`
	} `json:"cpace"`
	MAC struct {
		ID           string   `json:"id"`
		Secret       hexBytes `json:"secret"`
		Key          hexBytes `json:"key"`
		PC           string   `json:"pc"`
		FOffer       hexBytes `json:"fOffer"`
		FAnswer      hexBytes `json:"fAnswer"`
		Offer        string   `json:"offer"`
		Answer       string   `json:"answer"`
		TextOffer    string   `json:"textOffer"`
		TextAnswer   string   `json:"textAnswer"`
		NativeOffer  string   `json:"nativeOffer"`
		NativeAnswer string   `json:"nativeAnswer"`
	} `json:"mac"`
	Ends []struct {
		End    string `json:"end"`
		Others string `json:"others"`
	} `json:"ends"`
	Fingerprints []struct {
		SDP   string   `json:"sdp"`
		Valid bool     `json:"valid"`
		F     hexBytes `json:"f,omitempty"`
	} `json:"fingerprints"`
	Messages []struct {
		Message json.RawMessage `json:"message"`
		Valid   bool            `json:"valid"`
	} `json:"messages"`
	Parts []struct {
		Bytes  hexBytes `json:"bytes"`
		Valid  bool     `json:"valid"`
		File   uint32   `json:"file"`
		Block  uint32   `json:"block"`
		Length int      `json:"length"`
		Offset int      `json:"offset"`
		Hash   hexBytes `json:"hash,omitempty"`
		Data   hexBytes `json:"data,omitempty"`
	} `json:"parts"`
	Hashes struct {
		Bytes  hexBytes   `json:"bytes"`
		File   uint32     `json:"file"`
		First  uint32     `json:"first"`
		Hashes []hexBytes `json:"hashes"`
	} `json:"hashes"`
	Frames []struct {
		Text  bool     `json:"text"`
		Data  hexBytes `json:"data"`
		Bytes hexBytes `json:"bytes"`
	} `json:"frames"`
	Roots []struct {
		Comment string     `json:"comment"` // byte i of the file is i mod 251
		Size    int64      `json:"size"`
		Hashes  []hexBytes `json:"hashes"`
		Root    hexBytes   `json:"root"`
	} `json:"roots"`
	ManifestRoots []struct {
		Entries []json.RawMessage `json:"entries"`
		Roots   []hexBytes        `json:"roots"`
		Root    hexBytes          `json:"root"`
	} `json:"manifestRoots"`
	Paths []struct {
		Path string `json:"path"`
		Safe bool   `json:"safe"`
	} `json:"paths"`
	LocalNames []struct {
		Windows bool     `json:"windows"`
		Folds   bool     `json:"folds"`
		Paths   []string `json:"paths"`
		Names   []string `json:"names"`
	} `json:"localNames"`
	Depot struct {
		ID      string   `json:"id"`
		Secret  hexBytes `json:"secret"`
		Key     hexBytes `json:"key"`
		Read    string   `json:"read"`
		Hash    string   `json:"hash"` // of read, as the server gets it
		End     string   `json:"end"`
		Taker   string   `json:"taker"`
		Objects []struct {
			Number uint64   `json:"number"`
			Nonce  hexBytes `json:"nonce"`
			Plain  hexBytes `json:"plain"`
			Sealed hexBytes `json:"sealed"`
		} `json:"objects"`
		Frames  hexBytes `json:"frames"` // all of them, as they travel
		Layouts []struct {
			Sizes  []*int64 `json:"sizes"`
			Valid  bool     `json:"valid"`
			Blocks []uint64 `json:"blocks,omitempty"` // number of the first block of each file
			Lists  []uint64 `json:"lists,omitempty"`  // and of its first list of hashes
			Counts []uint64 `json:"counts,omitempty"` // how many lists it has
		} `json:"layouts"`
		Lists []struct {
			Bytes  hexBytes   `json:"bytes"`
			Valid  bool       `json:"valid"`
			Size   int64      `json:"size"`
			Hashes []hexBytes `json:"hashes"`
		} `json:"lists"`
	} `json:"depot"`
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// pattern is a file whose byte i is i mod 251.
func pattern(size int64) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func hashesOf(content []byte) (hashes []Hash) {
	for len(content) > 0 {
		n := min(len(content), BlockSize)
		hashes = append(hashes, sha256.Sum256(content[:n]))
		content = content[n:]
	}
	return hashes
}

func computeDepot(t *testing.T, v *vectors) {
	t.Helper()
	d := &v.Depot
	ticket := Ticket{ID: d.ID}
	copy(ticket.Secret[:], d.Secret)
	keys := ticket.depotKeys()
	d.Key = derive(d.Secret, label, "depot content")
	d.Read, d.Hash, d.Taker, d.Frames = keys.read, tokenHash(keys.read), keys.takerOf(d.End), nil
	for i := range d.Objects {
		o := &d.Objects[i]
		o.Sealed = keys.sealWith(nil, o.Nonce, o.Number, o.Plain)
		d.Frames = append(depot.AppendHeader(d.Frames, o.Number, len(o.Sealed)), o.Sealed...)
		if plain, err := keys.open(o.Number, slices.Clone(o.Sealed)); err != nil || !bytes.Equal(plain, o.Plain) {
			t.Errorf("object %d is opened as %x, %v", o.Number, plain, err)
		}
		if _, err := keys.open(o.Number+1, slices.Clone(o.Sealed)); err == nil {
			t.Errorf("object %d is taken for the next one", o.Number)
		}
	}
	for i := range d.Layouts {
		l := &d.Layouts[i]
		var own layout
		l.Valid, l.Blocks, l.Lists, l.Counts = true, nil, nil, nil
		for _, size := range l.Sizes {
			l.Valid = l.Valid && own.add(Entry{Size: size}) == nil
		}
		for k := range l.Sizes {
			if l.Valid {
				l.Blocks, l.Lists, l.Counts = append(l.Blocks, own.block(block{uint32(k), 0})), append(l.Lists, own.list(uint32(k), 0)), append(l.Counts, lists(own.sizes[k]))
			}
		}
	}
	for i := range d.Lists {
		l := &d.Lists[i]
		size, hashes, err := parseHashes(l.Bytes)
		l.Valid, l.Size, l.Hashes = err == nil, size, []hexBytes{}
		for _, h := range hashes {
			l.Hashes = append(l.Hashes, h[:])
		}
		if again := encodeHashes(size, hashes); l.Valid && !bytes.Equal(again, l.Bytes) {
			t.Errorf("hashes %x are written as %x", l.Bytes, again)
		}
	}
}

// computed fills in what follows from the rest.
func computed(t *testing.T, v vectors) vectors {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range v.Links {
		l := &v.Links[i]
		server, ticket, err := ParseLink(l.Link)
		l.Valid, l.Server, l.ID, l.Secret = err == nil, server, ticket.ID, nil
		if l.Valid {
			l.Secret = ticket.Secret[:]
			if again := ticket.Link(server); again != strings.TrimSpace(l.Link) {
				t.Errorf("link %q is written as %q", l.Link, again)
			}
		} else {
			l.Server, l.ID = "", ""
		}
	}
	for i := range v.Codes {
		c, ok := ParseCode(v.Codes[i].Written)
		v.Codes[i].Code = ""
		if ok {
			v.Codes[i].Code = c.String()
		}
	}

	scalar := func(b []byte) *ristretto255.Scalar {
		s := ristretto255.NewScalar()
		must(s.Decode(b))
		return s
	}
	c := &v.CPace
	code, ok := ParseCode(c.Code)
	if !ok {
		t.Fatal("code")
	}
	a, b := code.exchange(c.SID, scalar(c.ScalarA)), code.exchange(c.SID, scalar(c.ScalarB))
	must(a.finish(b64.EncodeToString(b.share), true))
	must(b.finish(b64.EncodeToString(a.share), false))
	if !bytes.Equal(a.isk, b.isk) {
		t.Error("the two sides have different keys")
	}
	c.Ya, c.Yb, c.ISK, c.Confirm = a.share, b.share, a.isk, a.tag()
	ticket, err := newTicket(c.ID, c.Secret)
	must(err)
	m, err := b.seal(codeMessage{Step: 3, Confirm: c.Confirm}, ticket)
	must(err)
	c.Link = m.Link
	if got, err := a.open(m); err != nil || got != ticket {
		t.Errorf("open: got %v, %v", got, err)
	}

	k := &v.MAC
	ticket = Ticket{ID: k.ID}
	copy(ticket.Secret[:], k.Secret)
	ring := ticket.keyring()
	k.Key = ring.key
	k.Offer = ring.offer(k.PC, Hash(k.FOffer))
	k.Answer = ring.answer(k.PC, Hash(k.FOffer), Hash(k.FAnswer))
	k.NativeOffer = ring.nativeOffer(k.PC, k.TextOffer)
	k.NativeAnswer = ring.nativeAnswer(k.PC, k.TextOffer, k.TextAnswer)
	for i := range v.Ends {
		v.Ends[i].Others = endForOthers(v.Ends[i].End)
	}
	for i := range v.Fingerprints {
		f, err := fingerprint(v.Fingerprints[i].SDP)
		v.Fingerprints[i].Valid, v.Fingerprints[i].F = err == nil, nil
		if err == nil {
			v.Fingerprints[i].F = f[:]
		}
	}
	for i := range v.Messages {
		_, err := parseMessage(v.Messages[i].Message)
		v.Messages[i].Valid = err == nil
	}
	for i := range v.Parts {
		p, _, err := parseBinary(v.Parts[i].Bytes)
		w := &v.Parts[i]
		w.Valid, w.File, w.Block, w.Length, w.Offset, w.Hash, w.Data = err == nil, 0, 0, 0, 0, nil, nil
		if err == nil {
			w.File, w.Block, w.Length, w.Offset, w.Hash, w.Data = p.File, p.Block, p.Length, p.Offset, p.Hash[:], p.Data
			if again := append(p.appendHeader(nil), p.Data...); !bytes.Equal(again, w.Bytes) {
				t.Errorf("part %d is written as %x", i, again)
			}
		}
	}
	computeDepot(t, &v)
	list := hashList{File: v.Hashes.File, First: v.Hashes.First}
	for _, h := range v.Hashes.Hashes {
		list.Hashes = append(list.Hashes, Hash(h))
	}
	v.Hashes.Bytes = list.encode()
	if _, again, err := parseBinary(v.Hashes.Bytes); err != nil || len(again.Hashes) != len(list.Hashes) || again.Hashes[0] != list.Hashes[0] {
		t.Errorf("hashes: got %v, %v", again, err)
	}
	for i := range v.Frames {
		f := &v.Frames[i]
		f.Bytes = append(appendFrameHeader(nil, f.Text, len(f.Data)), f.Data...)
	}
	for i := range v.Roots {
		r := &v.Roots[i]
		hashes := hashesOf(pattern(r.Size))
		r.Hashes = make([]hexBytes, len(hashes))
		for i, h := range hashes {
			r.Hashes[i] = h[:]
		}
		root := fileRoot(r.Size, hashes)
		r.Root = root[:]
	}
	for i := range v.ManifestRoots {
		r := &v.ManifestRoots[i]
		entries, roots := make([]Entry, len(r.Entries)), make([]Hash, len(r.Roots))
		for i := range entries {
			must(json.Unmarshal(r.Entries[i], &entries[i]))
			roots[i] = Hash(r.Roots[i])
		}
		root := manifestRoot(entries, roots)
		r.Root = root[:]
	}
	for i := range v.Paths {
		v.Paths[i].Safe = checkPath(v.Paths[i].Path) == nil
	}
	for i := range v.LocalNames {
		l := &v.LocalNames[i]
		n := newNamer(fileSystem{windows: l.Windows, folds: l.Folds})
		l.Names = nil
		for _, p := range l.Paths {
			l.Names = append(l.Names, n.local(p, false))
		}
	}
	return v
}

func TestVectors(t *testing.T) {
	v := computed(t, readVectors(t))
	got, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("%s:%d: got %s, want %s", vectorFile, i+1, g[i], w[i])
			}
		}
		t.Fatalf("got %d lines, want %d", len(g), len(w))
	}
}

// TestCPaceMatchesTheDraft holds our exchange to draft-irtf-cfrg-cpace-21, appendix B.3.
func TestCPaceMatchesTheDraft(t *testing.T) {
	d := readVectors(t).CPaceDraft.Values
	side := func(y string) cpace {
		s := ristretto255.NewScalar()
		if err := s.Decode(d[y]); err != nil {
			t.Fatal(err)
		}
		return newCPace(d["PRS"], d["CI"], d["sid"], s)
	}
	if got := cpaceGenerator(d["PRS"], d["CI"], d["sid"]).Encode(nil); !bytes.Equal(got, d["g"]) {
		t.Errorf("generator: got %x, want %x", got, d["g"])
	}
	a, b := side("ya"), side("yb")
	if !bytes.Equal(a.share, d["Ya"]) || !bytes.Equal(b.share, d["Yb"]) {
		t.Errorf("shares: got %x and %x", a.share, b.share)
	}
	for _, x := range []struct {
		c         cpace
		other     []byte
		initiator bool
	}{{a, b.share, true}, {b, a.share, false}} {
		got, err := x.c.isk(x.other, x.initiator, d["ADa"], d["ADb"])
		if err != nil || !bytes.Equal(got, d["ISK"]) {
			t.Errorf("ISK: got %x, %v, want %x", got, err, d["ISK"])
		}
	}
	for _, bad := range []string{"identity", "notCanonical"} {
		if _, err := a.isk(d[bad], true, nil, nil); err == nil {
			t.Errorf("the share %q was taken", bad)
		}
	}
}
