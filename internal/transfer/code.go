package transfer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha512"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/gtank/ristretto255"

	"github.com/madang-rtc/madang/internal/refusal"
)

//go:embed words.txt
var wordList string

// A Code is what people say to each other: a number that names a channel, and words that only they know (docs/transfer.md §2).
type Code struct{ Number, Words string }

func (c Code) String() string { return c.Number + "-" + c.Words }

// Channel is where the code is redeemed.
func (c Code) Channel() string { return "fc." + c.Number }

// NewCode makes a random one.
func NewCode() Code {
	words := strings.Fields(wordList)
	pick := func(n int) int {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		return int(i.Int64())
	}
	return Code{fmt.Sprint(1 + pick(999)), words[pick(len(words))] + "-" + words[pick(len(words))]}
}

var (
	codeForm  = regexp.MustCompile(`^([1-9][0-9]{0,5})-([a-z]{1,32}(?:-[a-z]{1,32}){0,7})$`)
	codeJoint = regexp.MustCompile(`[\s_.-]+`)
)

// ParseCode reads a code as people write it.
func ParseCode(s string) (Code, bool) {
	m := codeForm.FindStringSubmatch(codeJoint.ReplaceAllString(strings.ToLower(strings.TrimSpace(s)), "-"))
	if m == nil {
		return Code{}, false
	}
	return Code{m[1], m[2]}, true
}

// codeMessage is what the two ends say to each other in the code's channel.
type codeMessage struct {
	Step    int    `json:"step,omitempty"`
	SID     string `json:"sid,omitempty"`
	Y       string `json:"y,omitempty"`
	Confirm string `json:"confirm,omitempty"`
	Link    string `json:"link,omitempty"`
	Error   string `json:"error,omitempty"`
	Left    int    `json:"left,omitempty"`
}

// prependLen and lvCat are of draft-irtf-cfrg-cpace-21 appendix A.
func prependLen(b, s []byte) []byte {
	n := len(s)
	for n >= 0x80 {
		b, n = append(b, byte(n)|0x80), n>>7
	}
	return append(append(b, byte(n)), s...)
}

func lvCat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = prependLen(b, p)
	}
	return b
}

const (
	cpaceDSI    = "CPaceRistretto255"
	cpaceDSIISK = "CPaceRistretto255_ISK"
)

func cpaceGenerator(prs, ci, sid []byte) *ristretto255.Element {
	dsi := []byte(cpaceDSI)
	zeros := max(0, sha512.BlockSize-1-len(prependLen(nil, prs))-len(prependLen(nil, dsi)))
	h := sha512.Sum512(lvCat(dsi, prs, make([]byte, zeros), ci, sid))
	return ristretto255.NewElement().FromUniformBytes(h[:])
}

// A cpace is one side of one exchange.
type cpace struct {
	sid    []byte
	scalar *ristretto255.Scalar
	share  []byte // Ya or Yb
}

func newCPace(prs, ci, sid []byte, scalar *ristretto255.Scalar) cpace {
	return cpace{sid, scalar, ristretto255.NewElement().ScalarMult(scalar, cpaceGenerator(prs, ci, sid)).Encode(nil)}
}

func randomScalar() *ristretto255.Scalar {
	var b [64]byte
	rand.Read(b[:])
	return ristretto255.NewScalar().FromUniformBytes(b[:])
}

var errShare = errors.New("the other side's share is not one")

// isk finishes the exchange; other is the other side's share.
func (c cpace) isk(other []byte, initiator bool, ada, adb []byte) ([]byte, error) {
	element := ristretto255.NewElement()
	if err := element.Decode(other); err != nil {
		return nil, errShare
	}
	k := ristretto255.NewElement().ScalarMult(c.scalar, element)
	if k.Equal(ristretto255.NewElement().Zero()) == 1 {
		return nil, errShare
	}
	a, b := c.share, other
	if !initiator {
		a, b = b, a
	}
	h := sha512.Sum512(append(append(lvCat([]byte(cpaceDSIISK), c.sid, k.Encode(nil)), lvCat(a, ada)...), lvCat(b, adb)...))
	return h[:], nil
}

// A codeExchange is one attempt to redeem a code, on either side.
type codeExchange struct {
	cpace
	isk    []byte
	ya, yb []byte
}

func (c Code) exchange(sid []byte, scalar *ristretto255.Scalar) *codeExchange {
	ci := lvCat([]byte(label), []byte(c.Channel()))
	return &codeExchange{cpace: newCPace([]byte(c.Words), ci, sid, scalar)}
}

// redeem begins on the receiver's side.
func (c Code) redeem() (*codeExchange, codeMessage) {
	sid := make([]byte, 16)
	rand.Read(sid)
	x := c.exchange(sid, randomScalar())
	return x, codeMessage{Step: 1, SID: b64.EncodeToString(sid), Y: b64.EncodeToString(x.share)}
}

// answer takes step 1 and gives step 2, on the sender's side.
func (c Code) answer(m codeMessage) (*codeExchange, codeMessage, error) {
	sid, err := b64.DecodeString(m.SID)
	if err != nil || len(sid) != 16 {
		return nil, codeMessage{}, errShare
	}
	x := c.exchange(sid, randomScalar())
	if err := x.finish(m.Y, false); err != nil {
		return nil, codeMessage{}, err
	}
	return x, codeMessage{Step: 2, Y: b64.EncodeToString(x.share)}, nil
}

func (x *codeExchange) finish(y string, initiator bool) (err error) {
	other, err := b64.DecodeString(y)
	if err != nil {
		return errShare
	}
	x.isk, err = x.cpace.isk(other, initiator, []byte("receiver"), []byte("sender"))
	x.ya, x.yb = x.share, other
	if !initiator {
		x.ya, x.yb = other, x.share
	}
	return err
}

// confirm takes step 2 and gives step 3, on the receiver's side. Only once: each answer tells who sent step 2 whether one guess of the words is right.
func (x *codeExchange) confirm(m codeMessage) (codeMessage, error) {
	if x.isk != nil {
		return codeMessage{}, errNotAuthentic
	}
	if err := x.finish(m.Y, true); err != nil {
		return codeMessage{}, err
	}
	return codeMessage{Step: 3, Confirm: x.tag()}, nil
}

func (x *codeExchange) tag() string {
	return keyring{key: derive(x.isk, "", label+" confirm")}.mac(lp(lp(nil, x.ya), x.yb))
}

func (x *codeExchange) aead() cipher.AEAD {
	block, err := aes.NewCipher(derive(x.isk, "", label+" link"))
	if err != nil {
		panic(err) // 32 bytes are right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

type sealedTicket struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

// seal takes step 3 and gives step 4, on the sender's side, or code_wrong.
func (x *codeExchange) seal(m codeMessage, t Ticket) (codeMessage, error) {
	if checkMAC(m.Confirm, x.tag()) != nil {
		return codeMessage{}, refusal.New(refusal.CodeWrong)
	}
	plain, err := json.Marshal(sealedTicket{t.ID, t.secret()})
	if err != nil {
		return codeMessage{}, err
	}
	aead := x.aead()
	return codeMessage{Step: 4, Link: b64.EncodeToString(aead.Seal(nil, make([]byte, aead.NonceSize()), plain, nil))}, nil
}

// open takes step 4, on the receiver's side.
func (x *codeExchange) open(m codeMessage) (Ticket, error) {
	aead := x.aead()
	sealed, err := b64.DecodeString(m.Link)
	if err != nil {
		return Ticket{}, refusal.New(refusal.CodeWrong)
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, nil)
	if err != nil {
		return Ticket{}, refusal.New(refusal.CodeWrong)
	}
	var s sealedTicket
	if err := json.Unmarshal(plain, &s); err != nil {
		return Ticket{}, err
	}
	return newTicket(s.ID, s.Secret)
}
