package transfer

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/madang-rtc/madang/internal/refusal"
)

// label separates this protocol's keys and hashes from all others' (docs/transfer.md §2, §4).
const label = "madang-transfer/1"

var b64 = base64.RawURLEncoding.Strict()

// A Ticket is what a link says: which transfer, and the secret that both ends know and the server does not.
type Ticket struct {
	ID     string
	Secret [16]byte
}

var idForm = regexp.MustCompile(`^[a-z2-7]{16}$`)

// NewTicket makes a random one.
func NewTicket() Ticket {
	var t Ticket
	var id [10]byte
	rand.Read(id[:])
	rand.Read(t.Secret[:])
	t.ID = strings.ToLower(base32.StdEncoding.EncodeToString(id[:]))
	return t
}

// Channel is where the ends meet.
func (t Ticket) Channel() string { return "f." + t.ID }

// Link is the ticket as an address below server, such as "https://call.example.com".
func (t Ticket) Link(server string) string {
	return strings.TrimSuffix(server, "/") + "/f/" + t.ID + "#" + t.secret()
}

func (t Ticket) secret() string { return b64.EncodeToString(t.Secret[:]) }

func newTicket(id, secret string) (t Ticket, err error) {
	b, err := b64.DecodeString(secret)
	if err != nil || len(b) != len(t.Secret) || !idForm.MatchString(id) {
		return t, errors.New("not a transfer's id and secret")
	}
	t.ID = id
	copy(t.Secret[:], b)
	return t, nil
}

// ParseLink reads a link and says on which server it is.
func ParseLink(link string) (server string, t Ticket, err error) {
	u, err := url.Parse(strings.TrimSpace(link))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", t, errors.New("not a link such as https://call.example.com/f/…#…")
	}
	before, id, found := strings.Cut(u.Path, "/f/")
	if !found {
		return "", t, errors.New("not a link such as https://call.example.com/f/…#…")
	}
	if t, err = newTicket(id, u.Fragment); err != nil {
		return "", t, errors.New("a part of the link is missing; copy all of it, with what follows the #")
	}
	return u.Scheme + "://" + u.Host + before, t, nil
}

// A keyring proves to the other end that what it is told about a connection comes from somebody with the secret.
type keyring struct {
	id  string
	key []byte
}

func (t Ticket) keyring() keyring {
	return keyring{t.ID, derive(t.Secret[:], label, "fingerprints")}
}

// derive is HKDF with SHA-256, 32 bytes. It cannot fail: the length is one that HKDF allows.
func derive(secret []byte, salt, info string) []byte {
	key, err := hkdf.Key(sha256.New, secret, []byte(salt), info, 32)
	if err != nil {
		panic(err)
	}
	return key
}

// lp is a string with its length in front, so that what is joined cannot be read in two ways.
func lp[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func (k keyring) mac(parts ...[]byte) string {
	return b64.EncodeToString(hmacOf(k.key, parts...))
}

func hmacOf[T string | []byte](key []byte, parts ...T) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// The four MACs of §4 and §14. offer is the offer's fingerprint, or its text.

func (k keyring) offer(pc string, offer [32]byte) string {
	return k.mac(lp(lp(lp(nil, "offer"), k.id), pc), offer[:])
}

func (k keyring) answer(pc string, offer, answer [32]byte) string {
	return k.mac(lp(lp(lp(nil, "answer"), k.id), pc), offer[:], answer[:])
}

func (k keyring) nativeOffer(pc, offer string) string {
	return k.mac(lp(lp(lp(lp(nil, "native offer"), k.id), pc), offer))
}

func (k keyring) nativeAnswer(pc, offer, answer string) string {
	return k.mac(lp(lp(lp(lp(lp(nil, "native answer"), k.id), pc), offer), answer))
}

// errNotAuthentic: somebody between the ends lies, or the link was damaged.
var errNotAuthentic = refusal.New(refusal.NotAuthentic)

// checkMAC compares in constant time.
func checkMAC(got, want string) error {
	if !hmac.Equal([]byte(got), []byte(want)) {
		return errNotAuthentic
	}
	return nil
}

// endForOthers is what a receiver whose end the sender knows calls itself towards other receivers (§5).
func endForOthers(end string) string {
	return b64.EncodeToString(hmacOf([]byte(end), "others")[:16])
}

const fingerprintAttribute = "a=fingerprint"

// Fingerprint finds the one DTLS fingerprint of a description, strictly: a WebRTC stack that reads the same text must not find another (§4).
func fingerprint(sdp string) (f [32]byte, err error) {
	found := false
	for line := range strings.SplitSeq(sdp, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.Contains(line, "\r") {
			return f, errNotAuthentic
		}
		if !strings.HasPrefix(strings.ToLower(strings.TrimLeft(line, " \t\v\f")), fingerprintAttribute) {
			continue
		}
		rest, ok := strings.CutPrefix(line, fingerprintAttribute+":sha-256 ")
		if !ok || len(rest) != 3*len(f)-1 {
			return f, errNotAuthentic
		}
		var one [32]byte
		for i := range one {
			if i > 0 && rest[3*i-1] != ':' {
				return f, errNotAuthentic
			}
			if _, err := hex.Decode(one[i:i+1], []byte(rest[3*i:3*i+2])); err != nil {
				return f, errNotAuthentic
			}
		}
		if found && !bytes.Equal(one[:], f[:]) {
			return f, errNotAuthentic
		}
		f, found = one, true
	}
	if !found {
		return f, errNotAuthentic
	}
	return f, nil
}
