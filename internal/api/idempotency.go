package api

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// Idempotency keys follow draft-ietf-httpapi-idempotency-key-header: the first request with a key runs, and what it answered is given to those
// that repeat it. Only successes are kept: a request that was refused has done nothing, and may be tried again.
const (
	idempotencyAge  = 24 * time.Hour
	idempotencyMost = 100_000 // answers kept of one principal
	// A request that has not ended after this long never will: its process is gone.
	idempotencyStale = time.Minute
)

// once runs a POST with an idempotency key.
func (a *API) once(w http.ResponseWriter, r *http.Request, p principal, keys []string) {
	key := keys[0]
	if len(keys) > 1 || len(key) == 0 || len(key) > 255 || !isPrintable(key) {
		a.write(w, r, invalid("header.Idempotency-Key", "is one text of 1 to 255 printable ASCII characters"))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			err = refusal.New(refusal.MessageTooBig)
		} else {
			err = refusal.Newf(refusal.Malformed, "The request's body did not arrive.").Because(err)
		}
		a.write(w, r, err)
		return
	}
	c := call{
		principal:   p.id,
		id:          digest(p.id, p.secret, key), // a new administrator's token opens none of the former one's answers
		fingerprint: digest(r.Method, r.URL.RequestURI(), string(body)),
	}
	if c.seal, err = a.sealer(p, key); err != nil {
		a.write(w, r, err)
		return
	}
	kept, err := a.begin(r.Context(), c)
	if err != nil {
		a.write(w, r, err)
		return
	}
	if kept != nil {
		for k, v := range kept.Header {
			w.Header()[k] = v
		}
		w.Header().Set("Idempotency-Replayed", "true")
		w.WriteHeader(kept.Status)
		w.Write(kept.Body)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	finished := false
	defer func() {
		// The answer is kept even when the client has gone: it is for this case that it repeats the request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 5*time.Second)
		defer cancel()
		if err := a.end(ctx, c, rec, finished); err != nil {
			a.log.Error("the answer to a request with an idempotency key is not kept", "err", err)
		}
	}()
	a.mux.ServeHTTP(rec, r)
	finished = true
}

// A call is one request with an idempotency key.
type call struct {
	principal, id, fingerprint string
	seal                       cipher.AEAD
}

// An answer is what is kept of a response.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// begin notes that the request is at work, or returns the answer of the first one.
func (a *API) begin(ctx context.Context, c call) (*answer, error) {
	type row struct {
		fingerprint, response string
		status                int
		created               int64
	}
	var first *row
	now := time.Now()
	err := a.c.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM idempotency WHERE created_ms < $1 OR (status = 0 AND created_ms < $2)`,
			now.Add(-idempotencyAge).UnixMilli(), now.Add(-idempotencyStale).UnixMilli()); err != nil {
			return err
		}
		r, err := store.One(tx, func(s store.Scanner) (r row, err error) {
			return r, s.Scan(&r.fingerprint, &r.status, &r.response, &r.created)
		}, `SELECT fingerprint, status, response, created_ms FROM idempotency WHERE id = $1`, c.id)
		if err == nil {
			first = &r
		}
		if !errors.Is(err, store.ErrNone) {
			return err
		}
		n, err := store.One(tx, store.Int, `SELECT COUNT(*) FROM (SELECT 1 FROM idempotency WHERE principal = $1 LIMIT $2) AS some`, c.principal, idempotencyMost)
		if err != nil {
			return err
		}
		if n >= idempotencyMost {
			return refusal.Newf(refusal.RateLimited, "More than %d requests with an idempotency key came within 24 hours.", idempotencyMost).After(time.Hour)
		}
		_, err = tx.Exec(`INSERT INTO idempotency (id, principal, fingerprint, status, response, created_ms) VALUES ($1, $2, $3, 0, '', $4)`,
			c.id, c.principal, c.fingerprint, now.UnixMilli())
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case first == nil:
		return nil, nil
	case first.fingerprint != c.fingerprint:
		return nil, refusal.New(refusal.IdempotencyConflict)
	case first.status == 0:
		return nil, refusal.Newf(refusal.Conflict, "The first request with this idempotency key is still at work.").After(time.Second)
	}
	sealed, err := base64.RawStdEncoding.DecodeString(first.response)
	if err != nil || len(sealed) < c.seal.NonceSize() {
		return nil, errors.New("a kept answer is damaged")
	}
	plain, err := c.seal.Open(nil, sealed[:c.seal.NonceSize()], sealed[c.seal.NonceSize():], []byte(c.id))
	if err != nil {
		return nil, fmt.Errorf("open a kept answer: %w", err)
	}
	var kept answer
	return &kept, json.Unmarshal(plain, &kept)
}

// end keeps a success, and forgets everything else.
func (a *API) end(ctx context.Context, c call, rec *recorder, finished bool) error {
	if !finished || rec.status >= 300 {
		return a.c.DB.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM idempotency WHERE id = $1 AND status = 0`, c.id)
			return err
		})
	}
	kept := answer{Status: rec.status, Header: http.Header{}, Body: rec.body.Bytes()}
	for _, k := range []string{"Content-Type", "Etag", "Location"} {
		if v := rec.Header().Values(k); len(v) > 0 {
			kept.Header[k] = v
		}
	}
	plain, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	nonce := make([]byte, c.seal.NonceSize())
	rand.Read(nonce)
	response := base64.RawStdEncoding.EncodeToString(c.seal.Seal(nonce, nonce, plain, []byte(c.id)))
	return a.c.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE idempotency SET status = $2, response = $3 WHERE id = $1`, c.id, rec.status, response)
		return err
	})
}

// sealer encrypts kept answers, which may hold a key that is stored nowhere else: only who shows the same credentials and the same idempotency
// key can open it. On the control socket nothing is shown; the node's secret stands in, which guards as well as the database's mode does.
func (a *API) sealer(p principal, key string) (cipher.AEAD, error) {
	secret := p.secret
	if secret == "" {
		secret = string(a.c.Projects.NodeSecret())
	}
	k, err := hkdf.Key(sha256.New, []byte(secret), nil, "madang idempotency "+p.id+" "+key, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// A recorder keeps what it passes on.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

// digest hashes texts so that ("ab","c") and ("a","bc") differ.
func digest(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func isPrintable(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}
