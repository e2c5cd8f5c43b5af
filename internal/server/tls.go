package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/madang-rtc/madang/internal/config"
)

// alpn are the protocols inside of TLS on the one TCP port: HTTP, and TURN (RFC 7443 §3).
var alpn = []string{"h2", "http/1.1", "stun.turn"}

// certificates are where a node's certificate comes from: one of three sources.
type certificates struct {
	tls *tls.Config
	// redirect answers certificate challenges on port 80 and sends everything else to HTTPS; nil without a domain.
	redirect http.Handler
	// run gets and renews certificates until ctx ends; nil without a domain.
	run  func(ctx context.Context) error
	kind string // "acme", "file", "self-signed"
}

func newCertificates(c *config.Config, log *slog.Logger) (*certificates, error) {
	switch {
	case c.TLSCert != "":
		return fileCertificates(c.TLSCert, c.TLSKey)
	case c.Domain != "":
		return acmeCertificates(c, log)
	default:
		return selfSignedCertificates(filepath.Join(c.Data, "self-signed.pem"))
	}
}

// fileCertificates reads the pair again when one of the files has changed: certificates are renewed without a restart.
func fileCertificates(certFile, keyFile string) (*certificates, error) {
	var mu sync.Mutex
	var current *tls.Certificate
	var read, looked time.Time
	load := func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if current != nil && now.Sub(looked) < time.Second {
			return current, nil
		}
		looked = now
		var newest time.Time
		for _, name := range []string{certFile, keyFile} {
			if info, err := os.Stat(name); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
		if current != nil && newest.Equal(read) {
			return current, nil
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			if current != nil {
				return current, nil // half-written: the former pair is still better than none
			}
			return nil, err
		}
		current, read = &pair, newest
		return current, nil
	}
	if _, err := load(); err != nil {
		return nil, &config.Error{Key: "tls-cert", Reason: err.Error()}
	}
	return &certificates{
		kind: "file",
		tls: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: alpn,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() }},
	}, nil
}

// acmeCertificates gets certificates by itself (RFC 8555), by HTTP-01 on port 80 or TLS-ALPN-01 on 443.
func acmeCertificates(c *config.Config, log *slog.Logger) (*certificates, error) {
	logger := zap.New(slogCore{log})
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		Logger:           logger,
	})
	magic = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: filepath.Join(c.Data, "certificates")},
		Logger:  logger,
	})
	template := certmagic.ACMEIssuer{CA: c.ACMEDirectory, Email: c.ACMEEmail, Agreed: true, Logger: logger}
	if template.CA == "" {
		template.CA = certmagic.LetsEncryptProductionCA
	}
	if c.ACMERoot != "" {
		pemBytes, err := os.ReadFile(c.ACMERoot)
		if err != nil {
			return nil, &config.Error{Key: "acme-root", Reason: err.Error()}
		}
		template.TrustedRoots = x509.NewCertPool()
		if !template.TrustedRoots.AppendCertsFromPEM(pemBytes) {
			return nil, &config.Error{Key: "acme-root", Reason: "holds no PEM certificate"}
		}
	}
	// The challenges arrive on ports that are ours already; behind a port forwarding these are not 80 and 443.
	template.AltHTTPPort, template.AltTLSALPNPort = portOf(c.ListenHTTP), portOf(c.ListenAddress())
	issuer := certmagic.NewACMEIssuer(magic, template)
	magic.Issuers = []certmagic.Issuer{issuer}
	config := magic.TLSConfig()
	config.MinVersion = tls.VersionTLS12
	config.NextProtos = append(append([]string(nil), alpn...), config.NextProtos...) // keeps acme-tls/1
	return &certificates{
		kind:     "acme",
		tls:      config,
		redirect: issuer.HTTPChallengeHandler(http.HandlerFunc(redirectToHTTPS)),
		run: func(ctx context.Context) error {
			defer cache.Stop()
			if err := magic.ManageAsync(ctx, []string{c.Domain}); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		},
	}, nil
}

func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return 0
	}
	return n
}

func redirectToHTTPS(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "Use HTTPS.", http.StatusBadRequest) // a body that was sent in the clear is not carried on
		return
	}
	http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

// selfSignedCertificates makes a certificate for development and keeps it in path, so that a browser has to be told once only.
func selfSignedCertificates(path string) (*certificates, error) {
	pair, err := readSelfSigned(path)
	if err != nil {
		if pair, err = makeSelfSigned(path); err != nil {
			return nil, fmt.Errorf("self-signed certificate: %w", err)
		}
	}
	return &certificates{kind: "self-signed",
		tls: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: alpn, Certificates: []tls.Certificate{pair}}}, nil
}

func readSelfSigned(path string) (tls.Certificate, error) {
	pemBytes, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(pemBytes, pemBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	if time.Until(pair.Leaf.NotAfter) < 7*24*time.Hour {
		return tls.Certificate{}, errors.New("expires soon")
	}
	return pair, nil
}

func makeSelfSigned(path string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Madang development"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  localAddresses(),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 0, 397), // browsers refuse longer ones
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	if err := os.WriteFile(path, out, 0o600); err != nil && !errors.Is(err, fs.ErrPermission) {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(out, out)
}

// localAddresses are this machine's own, loopback first.
func localAddresses() []net.IP {
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return ips
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			ips = append(ips, n.IP)
		}
	}
	return ips
}

// slogCore carries the log of the certificate manager, which speaks zap, into ours.
type slogCore struct{ log *slog.Logger }

var _ zapcore.Core = slogCore{}

func (c slogCore) level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (c slogCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), c.level(l))
}

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.log.With(attributes(fields)...)}
}

func (c slogCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), c.level(e.Level), "certificates: "+e.Message, attributes(fields)...)
	return nil
}

func (c slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	attrs := make([]any, 0, len(encoder.Fields))
	for k, v := range encoder.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	return attrs
}
