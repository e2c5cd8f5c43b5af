// Package internal has only this test: it holds the table of who may import whom.
package internal

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/madang-rtc/madang/"

// rows are the floors of the house, top first (ARCHITECTURE.md). A package may import those of lower floors, and none of its own.
var rows = []struct {
	name     string
	packages []string
}{
	{"programs", []string{"cmd/madang"}},
	{"composition", []string{"internal/server"}},
	{"tools", []string{"internal/doctor", "internal/bench/signal", "internal/bench/transfer", "internal/bench/relay", "internal/bench/call"}},
	{"edges", []string{"internal/api", "internal/playrtc", "internal/signalserver", "internal/web"}},
	{"transfer", []string{"internal/transfer"}},
	{"carriers", []string{"internal/carrier"}},
	{"clients", []string{"internal/signalclient"}},
	{"product", []string{"internal/channel", "internal/depot", "internal/project"}},
	{"media", []string{"internal/relay"}},
	{"ground", []string{"internal/auth", "internal/store", "internal/signal", "internal/portmux", "internal/config", "internal/throttle", "internal/bench/measure"}},
	{"words", []string{"internal/refusal"}},
}

// bans are narrower than the rows. Each has its reason, since widening the table is a decision and not a fix.
var bans = []struct{ from, to, reason string }{
	{"internal/channel", "internal/signal", "the channel knows no wire: a PlayRTC page and an OBS are peers of the same kind"},
	{"internal/channel", "internal/store", "a join never waits for a disk"},
	{"internal/channel", "internal/relay", "loss of signaling must not touch media, nor the other way round"},
	{"internal/relay", "internal/project", "the packet path asks nobody but its own tables"},
	{"internal/auth", "internal/store", "auth decides; what it has to look up it asks of a Directory"},
	{"internal/signalserver", "internal/store", "edges translate; state belongs to the product row"},
	{"internal/signalserver", "internal/project", "who may join is asked through a function, so that every edge asks alike"},
	{"internal/playrtc", "internal/store", "edges translate; state belongs to the product row"},
	{"internal/playrtc", "internal/project", "who may join is asked through functions, so that every edge asks alike"},
	{"internal/playrtc", "internal/relay", "an edge hands out credentials that it is given"},
	{"internal/web", "internal/channel", "pages use the SDK like everybody else"},
	{"internal/signalclient", "internal/channel", "a client has nothing but the protocol"},
	{"internal/transfer", "internal/channel", "both ends of a transfer are peers; the server has no part in it"},
	{"internal/depot", "internal/store", "its objects are files: a database would copy each of them twice, and grow with them"},
	{"internal/doctor", "internal/server", "doctor looks from outside"},
	{"internal/doctor", "internal/channel", "doctor looks from outside"},
}

// readers of config: everybody else has a Config of its own, so that a setting touches one package.
var configReaders = []string{"cmd/madang", "internal/server"}

// exempt: tests and generators may import anything.
var exempt = []string{"internal/lab", "internal/lab/", "test", "test/", "internal/refusal/gen", "internal/store/storetest"}

func TestImportsGoDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	floor := map[string]int{}
	for i, row := range rows {
		for _, p := range row.packages {
			floor[p] = i
		}
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], module)
		if from == "internal" || isExempt(from) {
			continue
		}
		above, known := floor[from]
		if !known {
			t.Errorf("%s stands in no row: decide where it belongs, here and in ARCHITECTURE.md", from)
			continue
		}
		for _, imported := range fields[1:] {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if below, known := floor[to]; known && below <= above {
				t.Errorf("%s imports %s: arrows go down (%s, %s)", from, to, rows[above].name, rows[below].name)
			}
			if isExempt(to) {
				t.Errorf("%s imports %s, which is for tests", from, to)
			}
			if to == "internal/config" && !slices.Contains(configReaders, from) {
				t.Errorf("%s imports config: give it a Config of its own and fill it in server", from)
			}
			for _, ban := range bans {
				if from == ban.from && to == ban.to {
					t.Errorf("%s imports %s: %s", from, to, ban.reason)
				}
			}
		}
	}
}

func isExempt(p string) bool {
	return slices.ContainsFunc(exempt, func(e string) bool {
		return p == e || strings.HasSuffix(e, "/") && strings.HasPrefix(p, e)
	})
}
