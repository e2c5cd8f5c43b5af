package main

import (
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/server"
)

// What serve prints stands in columns in both languages, and names every link.
func TestAnnouncement(t *testing.T) {
	ready := server.Ready{Version: "v1", Public: "http://localhost:8080", Network: []string{"https://192.0.2.7:8080"}, Data: "/data", SelfSigned: true}
	for l, words := range map[language][]string{"en": {"is ready", "Start a call", "warns once"}, "ko": {"준비되었어요", "통화 시작", "한 번 경고해요"}} {
		var b strings.Builder
		announceText(&b, ready, l)
		for _, w := range append(words, "http://localhost:8080/\n", "https://192.0.2.7:8080/\n", "http://localhost:8080/docs/\n", "/data\n", `<madang-call channel="demo">`) {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: %q is missing in\n%s", l, w, b.String())
			}
		}
		for line := range strings.Lines(b.String()) {
			name, text, found := strings.Cut(strings.TrimPrefix(line, "  "), "  ")
			if !strings.HasPrefix(line, "  ") || !found || name == "" {
				continue
			}
			column := 0
			for _, r := range line[:len(line)-len(strings.TrimLeft(text, " "))] {
				column++
				if r >= 0xac00 && r <= 0xd7a3 {
					column++
				}
			}
			if column != 24 {
				t.Errorf("%s: %q begins in column %d", l, line, column)
			}
		}
	}
}
