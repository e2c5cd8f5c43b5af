package server

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// Certificates that are files are read again within a second of a change, and a pair that is half there ends nothing.
func TestChangedCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "both.pem") // the chain and its key
		changed := time.Now()
		put := func(content []byte) {
			t.Helper()
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			changed = changed.Add(time.Millisecond)
			if err := os.Chtimes(file, changed, changed); err != nil {
				t.Fatal(err)
			}
		}
		pair := func(name string) (pem []byte, sum [32]byte) {
			t.Helper()
			c, err := selfSignedCertificates(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if pem, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			return pem, sha256.Sum256(c.tls.Certificates[0].Certificate[0])
		}
		first, firstSum := pair("first.pem")
		second, secondSum := pair("second.pem")
		put(first)
		c, err := fileCertificates(file, file)
		if err != nil {
			t.Fatal(err)
		}
		shows := func(when string, want [32]byte) {
			t.Helper()
			got, err := c.tls.GetCertificate(nil)
			if err != nil || sha256.Sum256(got.Certificate[0]) != want {
				t.Errorf("%s: another certificate, or %v", when, err)
			}
		}
		shows("at the start", firstSum)
		put(second[:len(second)/2])
		time.Sleep(time.Second)
		shows("half-written", firstSum)
		put(second)
		time.Sleep(time.Second)
		shows("a second after the change", secondSum)
	})
}
