package relay

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Credentials let one peer of one project use the relay until ExpiresAt, with any TURN client (RFC 8656, long-term credentials).
// The server keeps nothing about them: the username carries what it has to know, the credential proves that we made it.
type Credentials struct {
	Username   string
	Credential string // secret
	ExpiresAt  time.Time
}

// String leaves the secret out, so that logging Credentials by mistake shows nothing.
func (c Credentials) String() string { return "relay credentials of " + c.Username }

// Grace is how long after its credentials' expiry an existing allocation may still be refreshed. A call must not end because it is long;
// a new allocation always needs credentials in force.
const Grace = 24 * time.Hour

// A name is what a username says: "expiry:project:peer", expiry in Unix seconds. A colon or percent sign in the project
// is written %3A or %25; the peer is the rest as it stands.
type name struct {
	expiry  int64
	project string
	peer    string
}

// maxUsername is the limit of RFC 8489 §14.3 in bytes (exclusive).
const maxUsername = 509

var (
	errNameMalformed = errors.New("username is not expiry:project:peer")
	projectEscaper   = strings.NewReplacer("%", "%25", ":", "%3A")
	projectUnescaper = strings.NewReplacer("%25", "%", "%3A", ":")
)

func (n name) String() string {
	return strconv.FormatInt(n.expiry, 10) + ":" + projectEscaper.Replace(n.project) + ":" + n.peer
}

// parseName reads a username. It accepts exactly what name.String writes: two spellings of one name would be two keys for one door.
func parseName(s string) (name, error) {
	if len(s) == 0 || len(s) >= maxUsername {
		return name{}, errNameMalformed
	}
	expiry, rest, ok1 := strings.Cut(s, ":")
	project, peer, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 || project == "" || peer == "" {
		return name{}, errNameMalformed
	}
	sec, err := strconv.ParseInt(expiry, 10, 64)
	if err != nil || sec <= 0 || sec > 1<<40 {
		return name{}, errNameMalformed
	}
	n := name{expiry: sec, project: projectUnescaper.Replace(project), peer: peer}
	if n.String() != s {
		return name{}, errNameMalformed
	}
	return n, nil
}

// password is the credential of a username: base64(HMAC-SHA-256(secret, username)).
func password(secret []byte, username string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// longTermKey is the key of RFC 8489 §9.2.2 for MESSAGE-INTEGRITY: MD5(username ":" realm ":" password).
func longTermKey(username, realm, password string) []byte {
	sum := md5.Sum([]byte(username + ":" + realm + ":" + password))
	return sum[:]
}
