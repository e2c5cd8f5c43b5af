package transfer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Kinds of a depot's objects (docs/transfer.md §15). An object's number is kind × 2⁴⁰ + n.
const (
	depotManifest = iota // n: pages in their order
	depotBlock           // n: blocks of all files in the order of the manifest
	depotHashes          // n: lists of hashes, likewise
	depotEnd             // n: 0

	depotKind     = 1 << 40
	hashesPerList = 4096
)

// depotKeys seal what waits on the server, and open it.
type depotKeys struct {
	id    string
	aead  cipher.AEAD
	read  string // the token of receivers
	taker []byte
}

func (t Ticket) depotKeys() *depotKeys {
	block, err := aes.NewCipher(derive(t.Secret[:], label, "depot content"))
	if err != nil {
		panic(err) // the key has a length that AES allows
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &depotKeys{t.ID, aead, b64.EncodeToString(derive(t.Secret[:], label, "depot read")), derive(t.Secret[:], label, "depot taker")}
}

// takerOf names an end to the server, which cannot know it again elsewhere.
func (k *depotKeys) takerOf(end string) string {
	return b64.EncodeToString(hmacOf(k.taker, end))
}

// tokenHash is what the server keeps of a token.
func tokenHash(token string) string {
	h := sha256.Sum256([]byte(token))
	return b64.EncodeToString(h[:])
}

func (k *depotKeys) bound(number uint64) []byte {
	return binary.BigEndian.AppendUint64(lp(lp(nil, "depot"), k.id), number)
}

// seal appends an object to b. Each has a random nonce of its own: what is sealed a second time, after a crash or a change, uses none again.
func (k *depotKeys) seal(b []byte, number uint64, plain []byte) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	return k.sealWith(b, nonce, number, plain)
}

func (k *depotKeys) sealWith(b, nonce []byte, number uint64, plain []byte) []byte {
	return k.aead.Seal(append(b, nonce...), nonce, plain, k.bound(number))
}

var errSealed = errors.New("what waited on the server is damaged, or was not put there by the sender")

// open gives the content of an object, in the object's own memory.
func (k *depotKeys) open(number uint64, object []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(object) < n+k.aead.Overhead() {
		return nil, errSealed
	}
	plain, err := k.aead.Open(object[n:n], object[:n], object[n:], k.bound(number))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// A layout says under which numbers the blocks and hashes of files stand.
type layout struct {
	blocks []uint64 // the first of each file, without its kind
	lists  []uint64
	end    [2]uint64 // what the next file begins with
	sizes  []int64   // -1: a stream
}

// errLayout: a file of unknown size is only possible alone, since nobody could say where the next one begins.
var errLayout = refusal.Newf(refusal.InvalidField, "A stream can wait on the server only if nothing else is sent with it.")

func (l *layout) add(e Entry) error {
	if len(l.sizes) > 0 && (e.size() < 0 || l.sizes[0] < 0) {
		return errLayout
	}
	size := e.size()
	l.blocks, l.lists, l.sizes = append(l.blocks, l.end[0]), append(l.lists, l.end[1]), append(l.sizes, size)
	if size >= 0 {
		l.end[0] += uint64(blocks(size))
		l.end[1] += lists(size)
	}
	return nil
}

// lists is how many lists of hashes a file has. One block needs none: it is its own. The last list of others is never full, so that it is known as the last.
func lists(size int64) uint64 {
	if size >= 0 && blocks(size) <= 1 {
		return 0
	}
	return uint64(blocks(size))/hashesPerList + 1
}

func (l *layout) block(b block) uint64 {
	return depotBlock*depotKind + l.blocks[b.file] + uint64(b.index)
}

func (l *layout) list(file uint32, n uint64) uint64 { return depotHashes*depotKind + l.lists[file] + n }

// most is how many blocks there can be.
func (l *layout) most() uint64 {
	if len(l.sizes) == 1 && l.sizes[0] < 0 {
		return uint64(blocks(maxFileSize))
	}
	return l.end[0]
}

// ranges says which blocks the numbers from first on are, as far as files are known.
func (l *layout) ranges(first, count uint64) (found []Range) {
	if len(l.sizes) == 1 && l.sizes[0] < 0 {
		return []Range{{0, uint32(first), uint32(count)}}
	}
	// The last file that begins there or before: empty ones before it begin there too.
	i, exact := slices.BinarySearch(l.blocks, first)
	if !exact {
		i--
	}
	for ; count > 0 && i >= 0 && i < len(l.sizes); i++ {
		n := uint64(blocks(l.sizes[i]))
		if first < l.blocks[i] || first >= l.blocks[i]+n {
			continue
		}
		most := min(count, l.blocks[i]+n-first)
		found = append(found, Range{uint32(i), uint32(first - l.blocks[i]), uint32(most)})
		first, count = first+most, count-most
	}
	return found
}

// encodeHashes is the content of a list: the file's size, or all ones while it is not known, and hashes.
func encodeHashes(size int64, hashes []Hash) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(hashes)*len(Hash{})), uint64(size))
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

func parseHashes(b []byte) (size int64, hashes []Hash, err error) {
	if len(b) < 8 || (len(b)-8)%len(Hash{}) != 0 || (len(b)-8)/len(Hash{}) > hashesPerList {
		return 0, nil, malformed("hashes")
	}
	if size = int64(binary.BigEndian.Uint64(b)); size < -1 || size > maxFileSize {
		return 0, nil, malformed("hashes: size")
	}
	for b = b[8:]; len(b) > 0; b = b[len(Hash{}):] {
		hashes = append(hashes, Hash(b[:len(Hash{})]))
	}
	return size, hashes, nil
}

// A depotEnding is the content of the last object: nothing will be added.
type depotEnding struct {
	Root   string        `json:"root,omitempty"` // of the manifest, if no file has failed
	Failed []depotFailed `json:"failed,omitempty"`
}

type depotFailed struct {
	File uint32       `json:"file"`
	Code refusal.Code `json:"code"`
}

func parseEnding(b []byte) (e depotEnding, err error) {
	if json.Unmarshal(b, &e) != nil {
		return e, malformed("end of a depot")
	}
	if e.Root != "" {
		_, err = (&message{Root: e.Root}).root()
	}
	return e, err
}
