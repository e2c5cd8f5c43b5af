package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Audience is the claim "aud" of every access token: a JWT that the same secret signed for another purpose is no access token.
const Audience = "madang"

// Leeway is how far the clock of the machine that made a token may be off. NTP keeps clocks far closer; what is further off is
// better said than guessed.
const Leeway = 30 * time.Second

// MaxTokenBytes bounds what is parsed. A token with 32 channels is about 2,500 bytes.
const MaxTokenBytes = 8 << 10

// GrantCreate in a token's "grants" allows joining a channel that nobody defined, in a project whose channels are not open.
const GrantCreate = "create"

// Claims are the content of an access token, a JWT (RFC 7519) signed with HS256 by one of the project's secrets, whose name is the header "kid".
type Claims struct {
	Project   string    // "iss": id of the project
	UID       string    // "sub": the application's name for the user; may be empty
	Channels  []string  // "channel": a name, a list of names, or "*"
	Role      Role      // "role"; empty: the channel decides
	Name      string    // "name": for display
	Grants    []string  // "grants"
	IssuedAt  time.Time // "iat"
	NotBefore time.Time // "nbf"; zero: at once
	ExpiresAt time.Time // "exp"
}

// Allows reports whether the token is for the channel.
func (c *Claims) Allows(channel string) bool {
	return slices.Contains(c.Channels, "*") || slices.Contains(c.Channels, channel)
}

// Check names the first claim that is not allowed, as a refusal with the code invalid_field.
func (c *Claims) Check() error {
	wrong := func(field, format string, args ...any) error {
		return refusal.Newf(refusal.InvalidField, format, args...).With("field", field)
	}
	if len(c.Channels) == 0 {
		return wrong("channel", "an access token names its channel, a list of channels, or \"*\"")
	}
	if len(c.Channels) > 32 {
		return wrong("channel", "an access token names at most 32 channels")
	}
	for _, name := range c.Channels {
		if name != "*" && !ValidChannelName(name) {
			return wrong("channel", "a channel's name is 1 to 64 of A-Z a-z 0-9 . _ ~ -")
		}
	}
	if c.Role != "" && !c.Role.Valid() {
		return wrong("role", "a role is host, speaker or viewer")
	}
	if err := checkText("uid", c.UID); err != nil {
		return err
	}
	if err := checkText("name", c.Name); err != nil {
		return err
	}
	if len(c.Grants) > 16 {
		return wrong("grants", "an access token has at most 16 grants")
	}
	return nil
}

// checkText holds names that others are shown to a line of at most 128 bytes.
func checkText(field, s string) error {
	if len(s) > 128 {
		return refusal.Newf(refusal.InvalidField, "%s is at most 128 bytes long", field).With("field", field)
	}
	if !utf8.ValidString(s) {
		return refusal.Newf(refusal.InvalidField, "%s is not valid UTF-8", field).With("field", field)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return refusal.Newf(refusal.InvalidField, "%s has control characters", field).With("field", field)
		}
	}
	return nil
}

// Mint signs claims with a project's secret that is named kid. ExpiresAt is required; IssuedAt is now if it is zero.
func Mint(c Claims, kid, secret string) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	if c.ExpiresAt.IsZero() {
		return "", errors.New("auth: mint a token without expiry")
	}
	if c.IssuedAt.IsZero() {
		c.IssuedAt = time.Now()
	}
	w := wireClaims{
		Channel: c.Channels, Role: c.Role, Name: c.Name, Grants: c.Grants,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: c.Project, Subject: c.UID, Audience: jwt.ClaimStrings{Audience},
			IssuedAt: jwt.NewNumericDate(c.IssuedAt), ExpiresAt: jwt.NewNumericDate(c.ExpiresAt),
		},
	}
	if !c.NotBefore.IsZero() {
		w.NotBefore = jwt.NewNumericDate(c.NotBefore)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, w)
	t.Header["kid"] = kid
	s, err := t.SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign an access token: %w", err)
	}
	return s, nil
}

// wireClaims are Claims as they stand in the token.
type wireClaims struct {
	Channel channelList `json:"channel"`
	Role    Role        `json:"role,omitempty"`
	Name    string      `json:"name,omitempty"`
	Grants  []string    `json:"grants,omitempty"`
	jwt.RegisteredClaims
}

// A channelList is one name, or a list of names.
type channelList []string

func (l channelList) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

func (l *channelList) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = channelList{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// errLookup carries an error of the secret function through the JWT library.
type errLookup struct{ err error }

func (e *errLookup) Error() string { return e.err.Error() }

// parseToken reads and verifies an access token. secret returns the value of a project's secret; its error is returned as it is.
// Every other error is a refusal with one of the token codes. Nothing is said about the claims of a token whose signature is wrong.
func parseToken(token string, now time.Time, secret func(project, kid string) (string, error)) (Claims, error) {
	malformed := func(format string, args ...any) (Claims, error) {
		return Claims{}, refusal.Newf(refusal.TokenMalformed, "The access token cannot be read: %s.", fmt.Sprintf(format, args...))
	}
	if len(token) > MaxTokenBytes {
		return malformed("it is longer than %d bytes", MaxTokenBytes)
	}
	var w wireClaims
	_, err := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), // neither "none" nor a public key taken for a secret
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithAudience(Audience),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(func() time.Time { return now }),
	).ParseWithClaims(token, &w, func(t *jwt.Token) (any, error) {
		// RFC 7515 §4.1.11: extensions that must be understood, and that we do not.
		if _, ok := t.Header["crit"]; ok {
			return nil, &errLookup{refusal.Newf(refusal.TokenMalformed, "The access token cannot be read: it has critical header parameters.")}
		}
		kid, ok := t.Header["kid"].(string)
		if !ok || kid == "" {
			return nil, &errLookup{refusal.Newf(refusal.TokenMalformed, "The access token cannot be read: its header has no \"kid\", the name of the secret that signed it.").With("missing", "kid")}
		}
		if w.Issuer == "" {
			return nil, &errLookup{refusal.Newf(refusal.TokenMalformed, "The access token cannot be read: it has no \"iss\", the id of its project.").With("missing", "iss")}
		}
		if len(kid) > 128 || len(w.Issuer) > 128 {
			return nil, &errLookup{refusal.New(refusal.TokenForeign)}
		}
		value, err := secret(w.Issuer, kid)
		if err != nil {
			return nil, &errLookup{err}
		}
		return []byte(value), nil
	})
	var lookup *errLookup
	switch {
	case err == nil:
	case errors.As(err, &lookup):
		return Claims{}, lookup.err
	case errors.Is(err, jwt.ErrTokenMalformed):
		return malformed("it is not a JSON Web Token")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Claims{}, refusal.New(refusal.TokenSignature)
	// The order below is the order in which we name faults when there are several: first what makes it another thing than
	// an access token of ours, then time.
	case errors.Is(err, jwt.ErrTokenInvalidAudience), w.Audience == nil:
		return Claims{}, refusal.Newf(refusal.TokenForeign, "The token is not meant for this server: its \"aud\" is not %q.", Audience).With("claim", "aud")
	case errors.Is(err, jwt.ErrTokenExpired):
		return Claims{}, withTimes(refusal.New(refusal.TokenExpired), now, "expiresAtMs", w.ExpiresAt)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return Claims{}, withTimes(refusal.New(refusal.TokenNotYetValid), now, "notBeforeMs", w.NotBefore)
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return Claims{}, withTimes(refusal.New(refusal.TokenNotYetValid), now, "issuedAtMs", w.IssuedAt)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return Claims{}, refusal.Newf(refusal.TokenMalformed, "The access token cannot be read: it has no \"exp\", the time at which it ends.").With("missing", "exp")
	default:
		return malformed("its claims are wrong")
	}
	c := Claims{Project: w.Issuer, UID: w.Subject, Channels: w.Channel, Role: w.Role, Name: w.Name, Grants: w.Grants, ExpiresAt: w.ExpiresAt.Time}
	if w.IssuedAt != nil {
		c.IssuedAt = w.IssuedAt.Time
	}
	if w.NotBefore != nil {
		c.NotBefore = w.NotBefore.Time
	}
	if err := c.Check(); err != nil {
		r := refusal.From(err)
		r.Code = refusal.TokenMalformed
		return Claims{}, r
	}
	return c, nil
}

// withTimes adds what one needs to see which clock is wrong.
func withTimes(r *refusal.Refusal, now time.Time, name string, t *jwt.NumericDate) *refusal.Refusal {
	r.With("serverTime", now.UTC().Format(time.RFC3339)).With("serverTimeMs", now.UnixMilli())
	if t != nil {
		r.With(name, t.UnixMilli())
		if r.Code == refusal.TokenNotYetValid {
			r.After(max(t.Sub(now)-Leeway, time.Second))
		}
	}
	return r
}
