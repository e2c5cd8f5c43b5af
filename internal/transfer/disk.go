package transfer

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// What a receiver keeps while files are on their way: for each file NAME.madang-part beside its final place, and one journal for all, .madang-ID.journal, in the folder
// that the user named. Both vanish when everything is there.
const (
	partSuffix    = ".madang-part"
	flushBytes    = 16 << 20
	flushEach     = time.Second
	flushParallel = 8
)

// A disk is the receiving side's folder. Its methods are safe for concurrent use.
type disk struct {
	root    *os.Root
	journal *os.File
	name    string // of the journal
	end     string // our name towards senders, kept over restarts
	resumed bool

	mu      sync.Mutex
	files   map[uint32]*diskFile
	open    []*diskFile // least recently used first
	names   *namer
	ours    map[string]bool // final names that this transfer made
	old     map[uint32]*oldFile
	pending []byte // records that are not in the journal yet
	finals  []byte // those that may come there only when the content is safe
	dirty   map[*diskFile]bool
	unsaved int
	flushMu sync.Mutex
	folders map[string]bool
}

type diskFile struct {
	index uint32
	entry Entry
	name  string
	file  *os.File
	users int
	done  bool
}

// An oldFile is what the journal says about a file from before.
type oldFile struct {
	id     fileIdentity
	hashes []Hash
	final  bool
}

type fileIdentity struct {
	File    uint32 `json:"file"`
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	MtimeMs int64  `json:"mtimeMs"`
	Name    string `json:"name"` // where it is kept
}

// Records of the journal: length (4), CRC-32C of the rest (4), kind (1), content.
const (
	recordEnd    = 'E' // our end: text
	recordFile   = 'F' // fileIdentity as JSON
	recordBlocks = 'B' // file (4), then block (4) and hash (32), many times
	recordFinal  = 'D' // file (4)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(b []byte, kind byte, content []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(content)))
	crc := crc32.Update(crc32.Checksum([]byte{kind}, castagnoli), castagnoli, content)
	b = binary.BigEndian.AppendUint32(b, crc)
	return append(append(b, kind), content...)
}

// readRecords calls do for each record until the first that is damaged, where a crash has cut the journal off, and returns the offset of that.
func readRecords(r io.Reader, do func(kind byte, content []byte)) (good int64) {
	in := bufio.NewReaderSize(r, 1<<20)
	var header [8]byte
	for {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return good
		}
		n := binary.BigEndian.Uint32(header[:])
		if n == 0 || n > 1<<24 {
			return good
		}
		content := make([]byte, n)
		if _, err := io.ReadFull(in, content); err != nil || crc32.Checksum(content, castagnoli) != binary.BigEndian.Uint32(header[4:]) {
			return good
		}
		do(content[0], content[1:])
		good += int64(len(header)) + int64(n)
	}
}

// openDisk opens dir for a transfer, and reads the journal of an earlier attempt, if there is one.
func openDisk(dir, id, freshEnd string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &disk{
		root: root, name: ".madang-" + id + ".journal", end: freshEnd, files: map[uint32]*diskFile{}, ours: map[string]bool{}, old: map[uint32]*oldFile{},
		dirty: map[*diskFile]bool{}, folders: map[string]bool{},
		names: newNamer(fileSystem{windows: runtime.GOOS == "windows", folds: runtime.GOOS == "windows" || runtime.GOOS == "darwin"}),
	}
	if d.journal, err = root.OpenFile(d.name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		root.Close()
		return nil, err
	}
	if err := lockFile(d.journal); err != nil {
		d.journal.Close()
		root.Close()
		return nil, refusal.Newf(refusal.Conflict, "Another madang receive is writing to this folder for the same link.")
	}
	end := ""
	good := readRecords(d.journal, func(kind byte, content []byte) {
		switch kind {
		case recordEnd:
			if endForm.Match(content) {
				end = string(content)
			}
		case recordFile:
			var id fileIdentity
			if json.Unmarshal(content, &id) == nil && id.Size >= -1 && id.Size <= maxFileSize && checkPath(id.Path) == nil && checkPath(id.Name) == nil {
				d.old[id.File] = &oldFile{id: id}
			}
		case recordBlocks:
			d.readBlocks(content)
		case recordFinal:
			if len(content) == 4 {
				if o := d.old[binary.BigEndian.Uint32(content)]; o != nil {
					o.final = true
				}
			}
		}
	})
	if err := errors.Join(d.journal.Truncate(good), seekEnd(d.journal)); err != nil {
		d.close()
		return nil, err
	}
	if end == "" {
		// At once: a link for one receiver knows us by it after a crash.
		d.pending = appendRecord(nil, recordEnd, []byte(d.end))
		if err := d.flush(); err != nil {
			d.close()
			return nil, err
		}
	} else {
		d.end, d.resumed = end, true
	}
	for _, o := range d.old {
		d.ours[o.id.Name] = o.final
	}
	return d, nil
}

func seekEnd(f *os.File) error {
	_, err := f.Seek(0, io.SeekEnd)
	return err
}

func (d *disk) readBlocks(content []byte) {
	if len(content) < 4 || (len(content)-4)%36 != 0 {
		return
	}
	o := d.old[binary.BigEndian.Uint32(content)]
	if o == nil {
		return
	}
	for b := content[4:]; len(b) > 0; b = b[36:] {
		i := binary.BigEndian.Uint32(b)
		if o.id.Size >= 0 && i >= blocks(o.id.Size) || o.id.Size < 0 && i > 1<<26 {
			continue
		}
		if int(i) >= len(o.hashes) {
			o.hashes = append(o.hashes, make([]Hash, int(i)+1-len(o.hashes))...)
		}
		o.hashes[i] = Hash(b[4:36])
	}
}

// claim gives an entry its place, in the order of the manifest, and says which blocks are there already: those of the journal whose content is still what it was.
func (d *disk) claim(i uint32, e Entry) ([]Hash, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &diskFile{index: i, entry: e}
	size := e.size()
	o := d.old[i]
	if o != nil && (o.id.Path != e.Path || o.id.Size != size || o.id.MtimeMs != e.MtimeMs) {
		// The sender has another file now. What was kept of the former one is worth nothing.
		if !o.final {
			d.root.Remove(o.id.Name + partSuffix)
		}
		o = nil
	}
	f.name = d.names.local(e.Path, e.Dir)
	d.files[i] = f
	if e.Dir {
		return nil, nil
	}
	if o != nil {
		f.name = o.id.Name
		if o.final {
			if _, err := d.root.Lstat(f.name + partSuffix); err == nil {
				if err := d.nameLocked(f); err != nil {
					return nil, err
				}
			}
			if info, err := d.root.Lstat(f.name); err == nil && info.Mode().IsRegular() && (size < 0 || info.Size() == size) {
				f.done = true
				return o.hashes, nil
			}
		}
		return d.verify(f, o.hashes), nil
	}
	d.freeName(f)
	return nil, d.identify(f)
}

// taken reports whether something that this transfer did not make has the name.
func (d *disk) taken(name string) bool {
	_, err := d.root.Lstat(name)
	return err == nil && !d.ours[name]
}

// verify reads what is there, since a crash may have lost it.
func (d *disk) verify(f *diskFile, hashes []Hash) []Hash {
	file, err := d.root.Open(f.name + partSuffix)
	if err != nil {
		return nil
	}
	defer file.Close()
	good := make([]Hash, len(hashes))
	buf := make([]byte, BlockSize)
	for i, h := range hashes {
		if h == (Hash{}) {
			continue
		}
		n := BlockSize
		if f.entry.Size != nil {
			n = blockLength(*f.entry.Size, uint32(i))
		}
		got, err := file.ReadAt(buf[:n], int64(i)*BlockSize)
		if (err == nil || errors.Is(err, io.EOF)) && sha256.Sum256(buf[:got]) == h {
			good[i] = h
		}
	}
	return good
}

// acquire opens a partial file, or finds it open.
func (d *disk) acquire(i uint32) (*diskFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[i]
	if f == nil {
		return nil, fmt.Errorf("file %d was not claimed", i)
	}
	if f.file == nil {
		if err := d.folder(path.Dir(f.name)); err != nil {
			return nil, err
		}
		// A link of this name is not followed out of the folder: os.Root.
		file, err := d.root.OpenFile(f.name+partSuffix, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, diskError(err)
		}
		f.file = file
	}
	f.users++
	d.open = append(slices.DeleteFunc(d.open, func(o *diskFile) bool { return o == f }), f)
	for k := 0; len(d.open) > maxOpenFiles && k < len(d.open); {
		if old := d.open[k]; old.users == 0 && !d.dirty[old] {
			old.file.Close()
			old.file = nil
			d.open = slices.Delete(d.open, k, k+1)
			continue
		}
		k++
	}
	return f, nil
}

func (d *disk) release(f *diskFile) {
	d.mu.Lock()
	f.users--
	d.mu.Unlock()
}

func (d *disk) folder(name string) error {
	if name == "." || name == "" || d.folders[name] {
		return nil
	}
	if err := d.root.MkdirAll(name, 0o777); err != nil {
		return diskError(err)
	}
	d.folders[name] = true
	return nil
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return refusal.New(refusal.DiskFull).Because(err).Advise("Make room and run the same command again: what has arrived is kept.")
	}
	return err
}

// write puts a verified block at its place, and into the journal: it outlives this process from then on, and a crash of the machine once flush has returned. What such a crash has
// taken is found by verify.
func (d *disk) write(b block, h Hash, data []byte) error {
	f, err := d.acquire(b.file)
	if err != nil {
		return err
	}
	_, err = f.file.WriteAt(data, int64(b.index)*BlockSize)
	d.mu.Lock()
	f.users--
	if err == nil {
		record := binary.BigEndian.AppendUint32(nil, b.file)
		record = binary.BigEndian.AppendUint32(record, b.index)
		d.pending = appendRecord(d.pending, recordBlocks, append(record, h[:]...))
		d.dirty[f] = true
		d.unsaved += len(data)
		err = d.writeJournalLocked()
	}
	flush := d.unsaved >= flushBytes
	d.mu.Unlock()
	if err != nil {
		return diskError(err)
	}
	if flush && d.flushMu.TryLock() {
		defer d.flushMu.Unlock()
		return d.flushLocked()
	}
	return nil
}

// read gives a verified block back, for another receiver.
func (d *disk) read(b block, buf []byte) (int, error) {
	d.mu.Lock()
	f := d.files[b.file]
	final := f != nil && f.done
	d.mu.Unlock()
	if f == nil {
		return 0, fs.ErrNotExist
	}
	var file *os.File
	if final {
		opened, err := d.root.Open(f.name)
		if err != nil {
			return 0, err
		}
		defer opened.Close()
		file = opened
	} else {
		if _, err := d.acquire(b.file); err != nil {
			return 0, err
		}
		defer d.release(f)
		file = f.file
	}
	n, err := file.ReadAt(buf, int64(b.index)*BlockSize)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// writeJournalLocked needs d.mu.
func (d *disk) writeJournalLocked() error {
	_, err := d.journal.Write(d.pending)
	d.pending = d.pending[:0]
	return err
}

// flush makes what was written survive a crash of the machine: content first, then the journal that calls a file final.
func (d *disk) flush() error {
	d.flushMu.Lock()
	defer d.flushMu.Unlock()
	return d.flushLocked()
}

func (d *disk) flushLocked() error {
	d.mu.Lock()
	dirty, finals := d.dirty, d.finals
	if d.unsaved == 0 && len(d.pending) == 0 && len(finals) == 0 {
		d.mu.Unlock()
		return nil
	}
	d.dirty, d.finals, d.unsaved = map[*diskFile]bool{}, nil, 0
	var files []*os.File
	for f := range dirty {
		if f.file != nil {
			f.users++ // it stays open
			files = append(files, f.file)
		}
	}
	d.mu.Unlock()
	err := syncAll(files)
	d.mu.Lock()
	for f := range dirty {
		if f.file != nil {
			f.users--
		}
	}
	if err == nil {
		d.pending = append(d.pending, finals...)
		err = d.writeJournalLocked()
	}
	d.mu.Unlock()
	if err != nil {
		return diskError(err)
	}
	return diskError(d.journal.Sync())
}

func syncAll(files []*os.File) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	slots := make(chan struct{}, flushParallel)
	for _, f := range files {
		slots <- struct{}{}
		wg.Go(func() {
			if err := f.Sync(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A finish is a file that is complete and verified.
type finish struct {
	file  uint32
	entry Entry
	size  int64
}

// finish gives files their final names, with the sender's times and permissions: all that wait at once, since making them safe takes a while whatever their number. The journal
// says so first, and claim does what a crash has prevented.
func (d *disk) finish(list []finish) []error {
	errs := make([]error, len(list))
	for k, fin := range list {
		errs[k] = d.prepare(fin)
	}
	if err := d.flush(); err != nil {
		for k := range errs {
			errs[k] = errors.Join(errs[k], err)
		}
		return errs
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, fin := range list {
		if errs[k] == nil {
			errs[k] = d.nameLocked(d.files[fin.file])
		}
	}
	return errs
}

func (d *disk) prepare(fin finish) error {
	d.mu.Lock()
	f := d.files[fin.file]
	if fin.entry.Dir {
		err := d.folder(f.name)
		f.done = true
		d.mu.Unlock()
		return err
	}
	done := f.done
	d.mu.Unlock()
	if done { // in an earlier life
		return nil
	}
	if _, err := d.acquire(fin.file); err != nil {
		return err
	}
	defer d.release(f)
	if err := f.file.Truncate(fin.size); err != nil {
		return diskError(err)
	}
	if fin.entry.Mode != 0 && runtime.GOOS != "windows" {
		// What our user's mask allows, and executable if it was; readable for us in any case.
		info, err := f.file.Stat()
		if err != nil {
			return err
		}
		mode := fs.FileMode(fin.entry.Mode)
		allowed := info.Mode().Perm()
		allowed |= allowed & 0o444 >> 2
		if err := f.file.Chmod(mode&allowed | 0o400); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if fin.entry.MtimeMs != 0 {
		at := time.UnixMilli(fin.entry.MtimeMs)
		if err := d.root.Chtimes(f.name+partSuffix, at, at); err != nil {
			return err
		}
	}
	if former := f.name; d.taken(former) { // meanwhile
		d.freeName(f)
		if err := d.root.Rename(former+partSuffix, f.name+partSuffix); err != nil {
			return diskError(err)
		}
		if err := d.identify(f); err != nil {
			return err
		}
	}
	d.dirty[f] = true
	d.finals = appendRecord(d.finals, recordFinal, binary.BigEndian.AppendUint32(nil, fin.file))
	return nil
}

// freeName finds a name for a file that nothing has.
func (d *disk) freeName(f *diskFile) {
	for d.taken(f.name) {
		dir, base := path.Split(f.name)
		f.name = d.names.unique(strings.TrimSuffix(dir, "/"), base)
	}
}

// identify notes in the journal what a file is and where it is kept.
func (d *disk) identify(f *diskFile) error {
	id, err := json.Marshal(fileIdentity{f.index, f.entry.Path, f.entry.size(), f.entry.MtimeMs, f.name})
	if err == nil {
		d.pending = appendRecord(d.pending, recordFile, id)
	}
	return err
}

func (d *disk) nameLocked(f *diskFile) error {
	if f.done {
		return nil
	}
	if f.file != nil {
		f.file.Close()
		f.file = nil
		d.open = slices.DeleteFunc(d.open, func(o *diskFile) bool { return o == f })
	}
	if err := d.root.Rename(f.name+partSuffix, f.name); err != nil {
		return diskError(err)
	}
	f.done = true
	d.ours[f.name] = true
	return nil
}

// discard removes what is there of a file that will not come.
func (d *disk) discard(i uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[i]
	if f == nil || f.done || f.entry.Dir || f.users > 0 {
		return
	}
	if f.file != nil {
		f.file.Close()
		f.file = nil
		d.open = slices.DeleteFunc(d.open, func(o *diskFile) bool { return o == f })
	}
	delete(d.dirty, f)
	d.root.Remove(f.name + partSuffix)
}

// path is where a file is kept, below the folder.
func (d *disk) path(i uint32) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[i].name
}

// end removes the journal: everything is there.
func (d *disk) complete() error {
	return errors.Join(d.flush(), d.root.Remove(d.name))
}

// close gives everything back; what is there stays for another attempt.
func (d *disk) close() error {
	err := d.flush()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.open {
		if f.file != nil {
			f.file.Close()
			f.file = nil
		}
	}
	d.open = nil
	// Nothing worth keeping: no file was begun.
	if info, statErr := d.journal.Stat(); statErr == nil && info.Size() > 0 && len(d.files) == 0 && len(d.old) == 0 {
		d.root.Remove(d.name)
	}
	return errors.Join(err, d.journal.Close(), d.root.Close())
}
