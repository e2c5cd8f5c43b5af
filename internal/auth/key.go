package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// Prefixes tell keys apart, for people, for secret scanners, and for us to name the mistake when one is used in the other's place.
const (
	browserKeyPrefix = "mbk_"
	serverKeyPrefix  = "msk_"
	adminTokenPrefix = "mad_"
)

// NewBrowserKey makes a browser key. It is public: who reads the page reads it.
func NewBrowserKey() string { return browserKeyPrefix + randomText() }

// NewServerKey makes a server key: full is shown once, id names it, hash is stored.
func NewServerKey() (id, full, hash string) {
	id = serverKeyPrefix + randomText()[:12]
	secret := randomText()
	return id, id + "_" + secret, HashSecret(secret)
}

// IsServerKey reports whether s has the form of a server key.
func IsServerKey(s string) bool { return strings.HasPrefix(s, serverKeyPrefix) }

// splitServerKey returns the two parts of a full server key.
func splitServerKey(full string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(full, serverKeyPrefix)
	if !ok {
		return "", "", false
	}
	name, secret, ok := strings.Cut(rest, "_")
	return serverKeyPrefix + name, secret, ok
}

// NewAdminToken makes a token for the node's administrator.
func NewAdminToken() (token, hash string) {
	token = adminTokenPrefix + randomText()
	return token, HashSecret(token)
}

// IsAdminToken reports whether s has the form of an administrator's token.
func IsAdminToken(s string) bool { return strings.HasPrefix(s, adminTokenPrefix) }

// HashSecret returns what is stored of a secret. The secrets hashed here are ours, with 128 random bits and more: nothing can be gained by
// guessing, so a fast hash is enough.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// EqualSecret compares a secret with a stored hash, in a time that says nothing about either.
func EqualSecret(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}

// randomText returns 26 characters of [a-z2-7]: 130 random bits.
func randomText() string { return strings.ToLower(rand.Text()) }
