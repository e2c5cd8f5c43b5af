package transfer

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/madang-rtc/madang/internal/refusal"
)

// checkPath refuses what could lead out of a folder (docs/transfer.md §11).
func checkPath(p string) error {
	unsafe := func() error { return refusal.New(refusal.PathUnsafe).With("path", p) }
	if len(p) > 4096 || !utf8.ValidString(p) {
		return unsafe()
	}
	for c := range strings.SplitSeq(p, "/") {
		if c == "" || c == "." || c == ".." || len(c) > 255 || strings.ContainsRune(c, 0) {
			return unsafe()
		}
	}
	return nil
}

// A fileSystem says what names a receiver's disk can hold.
type fileSystem struct {
	windows bool // forbidden characters and names
	folds   bool // "A" and "a", "é" and "e" with an accent are the same name
}

// A namer gives each entry the name under which it is kept. It must see all entries in the order of the manifest: the same manifest gives
// the same names.
type namer struct {
	fs     fileSystem
	taken  map[string]bool   // folded names of files and folders
	folder map[string]string // what the sender's folder is called here
}

func newNamer(fs fileSystem) *namer {
	return &namer{fs: fs, taken: map[string]bool{}, folder: map[string]string{"": ""}}
}

// local gives the name of a path; dir if the entry is a folder itself.
func (n *namer) local(p string, dir bool) string {
	parent, base := path.Split(p)
	parent = strings.TrimSuffix(parent, "/")
	if dir {
		return n.dir(p)
	}
	return n.unique(n.dir(parent), base)
}

func (n *namer) dir(p string) string {
	if name, known := n.folder[p]; known {
		return name
	}
	parent, base := path.Split(p)
	name := n.unique(n.dir(strings.TrimSuffix(parent, "/")), base)
	n.folder[p] = name
	return name
}

func (n *namer) unique(parent, base string) string {
	if n.fs.windows {
		base = windowsName(base)
	}
	ext := path.Ext(base)
	if ext == base { // .profile
		ext = ""
	}
	name := path.Join(parent, base)
	for i := 2; n.clashes(n.fold(name)); i++ {
		name = path.Join(parent, fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(base, ext), i, ext))
	}
	n.taken[n.fold(name)] = true
	return name
}

// clashes reports whether a name is taken, or is that of another file's partial one.
func (n *namer) clashes(name string) bool {
	whole, partial := strings.CutSuffix(name, PartSuffix)
	return n.taken[name] || n.taken[name+PartSuffix] || partial && n.taken[whole]
}

func (n *namer) fold(name string) string {
	if !n.fs.folds {
		return name
	}
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(name)))
}

func windowsName(c string) string {
	c = strings.Map(func(r rune) rune {
		if r < 0x20 || strings.ContainsRune(`<>:"\|?*`, r) {
			return '_'
		}
		return r
	}, c)
	if last := len(c) - 1; c[last] == '.' || c[last] == ' ' {
		c = c[:last] + "_"
	}
	stem, _, _ := strings.Cut(c, ".")
	switch s := strings.ToUpper(strings.TrimRight(stem, " ")); {
	case s == "CON", s == "PRN", s == "AUX", s == "NUL", s == "CONIN$", s == "CONOUT$",
		(strings.HasPrefix(s, "COM") || strings.HasPrefix(s, "LPT")) && len([]rune(s)) == 4 && strings.ContainsAny(s[3:], "0123456789¹²³"):
		c = "_" + c
	}
	return c
}
