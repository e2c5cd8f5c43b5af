package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/madang-rtc/madang/internal/refusal"
)

func diskIn(t *testing.T, dir, id string) *disk {
	t.Helper()
	d, err := openDisk(dir, id, newEnd())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func (d *disk) puts(t *testing.T, i uint32, content []byte) {
	t.Helper()
	for n := range blocks(int64(len(content))) {
		data := content[n*BlockSize : int(n)*BlockSize+blockLength(int64(len(content)), n)]
		if err := d.write(block{i, n}, sha256.Sum256(data), data); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *disk) claims(t *testing.T, i uint32, path string, size int) []Hash {
	t.Helper()
	hashes, err := d.claim(i, Entry{Path: path, Size: new(int64(size))})
	if err != nil {
		t.Fatal(err)
	}
	return hashes
}

func (d *disk) finishes(t *testing.T, i uint32) {
	t.Helper()
	e := d.files[i].entry
	for _, err := range d.finish([]finish{{i, e, *e.Size}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// holds compares a folder with what should be in it, but for journals.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) == ".journal" {
			return err
		}
		b, err := os.ReadFile(name)
		name, _ = filepath.Rel(dir, name)
		got[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What the user has in the place of a folder that comes is neither written through nor replaced, and the user is told what it is.
func TestAFolderThatIsSomethingElse(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "there"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out": elsewhere, "in": "there"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skip(err) // on Windows not everybody may
		}
	}
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	for i, name := range []string{"file", "out"} {
		d.claims(t, uint32(i), name+"/of mine/a", 1)
		if err := d.write(block{uint32(i), 0}, sha256.Sum256([]byte("a")), []byte("a")); !errors.Is(err, refusal.New(refusal.Conflict)) || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	d.claims(t, 2, "in/a", 1)
	d.puts(t, 2, []byte("a"))
	d.finishes(t, 2)
	os.Remove(filepath.Join(dir, "out")) // which WalkDir would not follow, but read
	os.Remove(filepath.Join(dir, "in"))
	holds(t, dir, map[string]string{"file": "mine", "there/a": "a"})
	holds(t, elsewhere, map[string]string{})
}

// Two transfers write to one folder, and each has a file of the same name.
func TestTransfersDoNotShareAPartialFile(t *testing.T) {
	dir := t.TempDir()
	a, b := diskIn(t, dir, "aaaaaaaaaaaaaaaa"), diskIn(t, dir, "bbbbbbbbbbbbbbbb")
	a.claims(t, 0, "film.mkv", 3)
	b.claims(t, 0, "film.mkv", 5)
	a.puts(t, 0, []byte("one"))
	b.puts(t, 0, []byte("other"))
	a.finishes(t, 0)
	b.finishes(t, 0)
	holds(t, dir, map[string]string{"film.mkv": "one", "film (2).mkv": "other"})
}

// A transfer that was interrupted finds its partial file again, whoever has written to the folder since.
func TestAnInterruptedTransferKeepsItsPartialFile(t *testing.T) {
	dir := t.TempDir()
	a := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	content := pattern(2 * BlockSize)
	a.claims(t, 0, "film.mkv", len(content))
	a.puts(t, 0, content[:BlockSize])
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	b := diskIn(t, dir, "bbbbbbbbbbbbbbbb")
	b.claims(t, 0, "film.mkv", 5)
	b.puts(t, 0, []byte("other"))
	b.finishes(t, 0)
	a = diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	a.prove(context.Background(), 0, []Entry{{Path: "film.mkv", Size: new(int64(len(content)))}})
	if had := a.claims(t, 0, "film.mkv", len(content)); len(had) != 1 || had[0] != sha256.Sum256(content[:BlockSize]) {
		t.Errorf("what had arrived is lost: %v", had)
	}
	a.puts(t, 0, content)
	a.finishes(t, 0)
	if got, err := os.ReadFile(filepath.Join(dir, "film.mkv")); err != nil || string(got) != string(content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "film (2).mkv")); err != nil || string(got) != "other" {
		t.Errorf("the other transfer's file: got %q, %v", got, err)
	}
}

// The name of one file may be that of another one's partial file.
func TestAFileMayBeCalledLikeAPartialOne(t *testing.T) {
	for _, order := range [][]uint32{{0, 1}, {1, 0}} {
		dir := t.TempDir()
		d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
		contents := []string{"whole", "part"}
		d.claims(t, 0, "x", len(contents[0]))
		d.claims(t, 1, "x"+PartSuffix, len(contents[1]))
		for _, i := range order {
			d.puts(t, i, []byte(contents[i]))
			d.finishes(t, i)
		}
		holds(t, dir, map[string]string{"x": "whole", "x (2)" + PartSuffix: "part"})
	}
}

// What gets a file's name while that comes stays, before a crash and after it.
func TestAFileThatAppearsMeanwhileStays(t *testing.T) {
	dir := t.TempDir()
	put := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	for i, name := range []string{"a.txt", "b.txt"} {
		d.claims(t, uint32(i), name, 4)
		d.puts(t, uint32(i), []byte("ours"))
	}
	put("a.txt")
	d.finishes(t, 0)
	// The journal calls b final; the crash comes before it has its name.
	if err := d.prepare(finish{1, d.files[1].entry, 4}); err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	put("b.txt")
	d = diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	for i, name := range []string{"a.txt", "b.txt"} {
		if had := d.claims(t, uint32(i), name, 4); len(had) != 1 || !d.files[uint32(i)].done {
			t.Errorf("%s: %d blocks are known, done %t", name, len(had), d.files[uint32(i)].done)
		}
	}
	holds(t, dir, map[string]string{"a.txt": "theirs", "a (2).txt": "ours", "b.txt": "theirs", "b (2).txt": "ours"})
}

// A crash between the link to a final name and the removal of the partial one leaves both.
func TestAHalfRenamedFileIsOneFile(t *testing.T) {
	dir := t.TempDir()
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	d.claims(t, 0, "a", 4)
	d.puts(t, 0, []byte("ours"))
	if err := d.prepare(finish{0, d.files[0].entry, 4}); err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"+PartSuffix), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	d = diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	d.claims(t, 0, "a", 4)
	holds(t, dir, map[string]string{"a": "ours"})
}

// Others read blocks of files that get their names at the same time.
func TestBlocksAreReadWhileFilesGetTheirNames(t *testing.T) {
	dir := t.TempDir()
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	const files = 300
	var list []finish
	for i := range uint32(files) {
		d.claims(t, i, fmt.Sprint("f", i), 4)
		d.puts(t, i, fmt.Appendf(nil, "%4d", i))
		list = append(list, finish{i, d.files[i].entry, 4})
	}
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			buf := make([]byte, 4)
			for i := uint32(0); ; i = (i + 1) % files {
				select {
				case <-stop:
					return
				default:
				}
				if n, err := d.read(block{i, 0}, buf); err != nil || string(buf[:n]) != fmt.Sprintf("%4d", i) {
					t.Errorf("file %d: got %q, %v", i, buf[:n], err)
					return
				}
			}
		})
	}
	for part := range slices.Chunk(list, 20) {
		for _, err := range d.finish(part) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	readers.Wait()
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+PartSuffix)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if n := len(d.open); n > 0 {
		t.Errorf("%d files are open", n)
	}
}

// What is there is compared with the journal beside everything else, and no longer than the transfer lasts.
func TestProvingEndsWithItsTransfer(t *testing.T) {
	dir := t.TempDir()
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	content := pattern(4 * BlockSize)
	d.claims(t, 0, "a", len(content))
	d.puts(t, 0, content)
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	d = diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	entries := []Entry{{Path: "a", Size: new(int64(len(content)))}}
	d.prove(ctx, 0, entries)
	if d.old[0].proven {
		t.Error("what was not read counts as proven")
	}
	d.prove(context.Background(), 0, entries)
	if err := os.Truncate(filepath.Join(dir, "a"+PartSuffix), 0); err != nil { // claim does not look again
		t.Fatal(err)
	}
	if had := d.claims(t, 0, "a", len(content)); len(had) != 4 || slices.Contains(had, Hash{}) {
		t.Errorf("%d blocks are there", len(had))
	}
}

// Zeros are what a loss of power leaves of a block that was not on the disk yet. Whatever the journal says, they are not taken for content: neither in a partial file nor in one that has its name.
func TestWhatTheJournalClaimsIsRead(t *testing.T) {
	dir := t.TempDir()
	content := pattern(3 * BlockSize)
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	for i, name := range []string{"partial", "final", "edited"} {
		d.claims(t, uint32(i), name, len(content))
		d.puts(t, uint32(i), content)
	}
	d.finishes(t, 1)
	d.finishes(t, 2)
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"partial" + PartSuffix, "final", "edited"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, BlockSize), BlockSize); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	d = diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	had := d.claims(t, 0, "partial", len(content))
	if len(had) != 3 || had[0] == (Hash{}) || had[1] != (Hash{}) || had[2] == (Hash{}) {
		t.Errorf("of a partial file without its second block: %x", had)
	}
	for i, name := range []string{"final", "edited"} {
		if had := d.claims(t, uint32(i+1), name, len(content)); len(had) > 0 || d.files[uint32(i+1)].done {
			t.Errorf("%s counts as received: %x", name, had)
		}
		d.puts(t, uint32(i+1), content)
		d.finishes(t, uint32(i+1))
		if got, err := os.ReadFile(filepath.Join(dir, name+" (2)")); err != nil || string(got) != string(content) {
			t.Errorf("%s (2): %d bytes, %v", name, len(got), err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) == string(content) {
			t.Errorf("%s, which somebody has changed, was replaced", name)
		}
	}
}

// The size of a stream may be known in one life and not in the other.
func TestAStreamIsFoundAgainWhenItsSizeIsKnown(t *testing.T) {
	content := pattern(2*BlockSize + 17)
	for name, sizes := range map[string][3]*int64{
		"known later": {nil, new(int64(len(content))), new(int64(len(content)))},
		"known first": {new(int64(len(content))), nil, new(int64(len(content)))},
		"never known": {nil, nil, nil},
	} {
		dir := t.TempDir()
		for life, size := range sizes {
			d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
			e := Entry{Path: "stream", Size: size}
			d.prove(context.Background(), 0, []Entry{e})
			had, err := d.claim(0, e)
			if err != nil {
				t.Fatal(err)
			}
			if life == 0 {
				d.puts(t, 0, content)
			} else if !slices.Equal(had, hashesOf(content)) {
				t.Errorf("%s: %d blocks are known in life %d", name, len(had), life)
			}
			if life == 2 {
				for _, err := range d.finish([]finish{{0, e, int64(len(content))}}) {
					if err != nil {
						t.Error(err)
					}
				}
			}
			if err := d.close(); err != nil {
				t.Fatal(err)
			}
		}
		holds(t, dir, map[string]string{"stream": string(content)})
	}
}

// What the system says once of a disk that fails ends the transfer, whoever hears it: no file gets its name after that.
func TestAFailureOfTheDiskIsRemembered(t *testing.T) {
	dir := t.TempDir()
	d := diskIn(t, dir, "aaaaaaaaaaaaaaaa")
	d.claims(t, 0, "a", 4)
	d.puts(t, 0, []byte("ours"))
	journal := d.journal
	var err error
	if d.journal, err = os.Open(os.DevNull); err != nil { // nothing can be written to it
		t.Fatal(err)
	}
	defer d.journal.Close()
	if err := d.write(block{0, 0}, sha256.Sum256([]byte("ours")), []byte("ours")); err == nil {
		t.Fatal("it can be written")
	}
	d.journal = journal
	if errs := d.finish([]finish{{0, d.files[0].entry, 4}}); errs[0] == nil {
		t.Error("the file has got its name")
	}
	if d.complete() == nil {
		t.Error("the transfer is complete")
	}
	holds(t, dir, map[string]string{"a" + PartSuffix: "ours"})
	if _, err := os.Stat(filepath.Join(dir, d.name)); err != nil {
		t.Errorf("the journal: %v", err)
	}
}
