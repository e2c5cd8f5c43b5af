package transfer

import (
	"bufio"
	"context"
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
	// PartSuffix ends the name of a file that has not arrived yet.
	PartSuffix = ".madang-part"

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
	broken  error // a write or flush that failed: what came after it in the journal might not be read again, and the system may not say it a second time
}

type diskFile struct {
	index uint32
	entry Entry
	name  string
	file  *os.File
	users int
	begun bool // its partial file is there, and is ours
	done  bool
}

// An oldFile is what the journal says about a file from before.
type oldFile struct {
	id     fileIdentity
	hashes []Hash
	final  bool
	proven bool // hashes are of what is there
	lost   bool // nothing is
}

// is reports whether it is this entry, and has not changed. A stream's size is known to only one of both where this end was stopped before its end, or hears of it from another place now.
func (o *oldFile) is(e Entry) bool {
	return o.id.Path == e.Path && (o.id.Size == e.size() || o.id.Size < 0 || e.Size == nil) && o.id.MtimeMs == e.MtimeMs
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
	if err := LockFile(d.journal); err != nil {
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
				if o := d.old[id.File]; o != nil && id.Path == o.id.Path && id.Size == o.id.Size && id.MtimeMs == o.id.MtimeMs {
					o.id.Name = id.Name // it was given another one
				} else {
					d.old[id.File] = &oldFile{id: id}
				}
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

// prove reads what the journal claims of entries from one on, since a crash may have lost it: claim need not then, and holds nobody up.
func (d *disk) prove(ctx context.Context, from uint32, entries []Entry) {
	for k, e := range entries {
		d.mu.Lock()
		o := d.old[from+uint32(k)]
		due := o != nil && !o.proven && o.is(e)
		d.mu.Unlock()
		if !due {
			continue
		}
		hashes, found := d.verify(ctx, o, e)
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		o.hashes, o.lost, o.proven = hashes, !found, true
		d.mu.Unlock()
	}
}

// verify gives the hashes of what is there, in the partial file or in the final one, and whether anything is.
func (d *disk) verify(ctx context.Context, o *oldFile, e Entry) (good []Hash, found bool) {
	file, err := d.root.Open(o.id.Name + PartSuffix)
	if err != nil && o.final {
		file, err = d.root.Open(o.id.Name)
	}
	if err != nil {
		return nil, false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	size := max(o.id.Size, e.size())
	good = make([]Hash, len(o.hashes))
	if size >= 0 {
		good = good[:min(len(good), int(blocks(size)))]
	}
	buf := make([]byte, BlockSize)
	for i := range good {
		h := o.hashes[i]
		if h == (Hash{}) {
			continue
		}
		if ctx.Err() != nil {
			return nil, true
		}
		n := BlockSize
		if size >= 0 {
			n = blockLength(size, uint32(i))
		}
		got, err := file.ReadAt(buf[:n], int64(i)*BlockSize)
		if (err == nil || errors.Is(err, io.EOF)) && sha256.Sum256(buf[:got]) == h {
			good[i] = h
		}
	}
	return good, true
}

// claim gives an entry its place, in the order of the manifest, and says which blocks are there already: those of the journal whose content is still what it was.
func (d *disk) claim(i uint32, e Entry) ([]Hash, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &diskFile{index: i, entry: e}
	o := d.old[i]
	if o != nil && !o.is(e) {
		// The sender has another file now. What was kept of the former one is worth nothing.
		if !o.final {
			d.root.Remove(o.id.Name + PartSuffix)
		}
		o = nil
	}
	f.name = d.names.local(e.Path, e.Dir)
	d.files[i] = f
	if e.Dir || o == nil {
		return nil, nil
	}
	f.name = o.id.Name
	f.entry.Size = nil // as the journal has it: a record with another one would begin the file anew
	if o.id.Size >= 0 {
		f.entry.Size = &o.id.Size
	}
	if !o.proven {
		hashes, found := d.verify(context.Background(), o, e)
		o.hashes, o.lost, o.proven = hashes, !found, true
	}
	if size := e.size(); size >= 0 {
		o.hashes = o.hashes[:min(len(o.hashes), int(blocks(size)))] // it may have become known since
	}
	f.begun = !o.lost
	if !o.final {
		return o.hashes, nil
	}
	_, err := d.root.Lstat(f.name + PartSuffix)
	partial := err == nil
	whole := !o.lost && !slices.Contains(o.hashes, Hash{}) && (e.Size == nil || len(o.hashes) == int(blocks(*e.Size)))
	if whole && !partial {
		if info, err := d.root.Lstat(f.name); err == nil && info.Mode().IsRegular() && (e.Size == nil || info.Size() == *e.Size) {
			f.done = true
			return o.hashes, nil
		}
	}
	d.ours[f.name] = false // what has the name came meanwhile, or was changed since
	switch {
	case partial && whole:
		return o.hashes, d.nameLocked(f)
	case partial:
		return o.hashes, nil
	}
	f.begun = false
	return nil, nil
}

// taken reports whether something that this transfer did not make has the name, or that of its partial file.
func (d *disk) taken(name string) bool {
	if _, err := d.root.Lstat(name + PartSuffix); err == nil {
		return true
	}
	_, err := d.root.Lstat(name)
	return err == nil && !d.ours[name]
}

// acquire opens a partial file, or finds it open.
func (d *disk) acquire(i uint32) (*diskFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[i]
	if f == nil {
		return nil, fmt.Errorf("file %d was not claimed", i)
	}
	return f, d.acquireLocked(f)
}

func (d *disk) acquireLocked(f *diskFile) error {
	var err error
	switch {
	case f.file != nil:
	case f.begun:
		// A link of this name is not followed out of the folder: os.Root.
		f.file, err = d.root.OpenFile(f.name+PartSuffix, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrPermission) {
			f.file, err = d.openForbidden(f.name + PartSuffix)
		}
	default:
		err = d.beginLocked(f)
	}
	if err != nil {
		return diskError(err)
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
	return nil
}

// openForbidden opens a partial file that has its sender's permissions already, and may not be written to: a crash came before it had its name.
func (d *disk) openForbidden(name string) (*os.File, error) {
	info, err := d.root.Lstat(name)
	if err == nil {
		err = d.root.Chmod(name, info.Mode().Perm()|0o200)
	}
	if err != nil {
		return nil, err
	}
	return d.root.OpenFile(name, os.O_RDWR, 0)
}

// beginLocked makes a partial file of this transfer's own: others may write to the same folder, and send files of the same name. The journal says so first.
func (d *disk) beginLocked(f *diskFile) error {
	if err := d.folder(path.Dir(f.name)); err != nil {
		return err
	}
	for {
		d.freeName(f)
		err := d.identify(f)
		if err == nil {
			err = d.writeJournalLocked()
		}
		if err != nil {
			return err
		}
		if f.file, err = d.root.OpenFile(f.name+PartSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
			f.begun = true
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

func (d *disk) release(f *diskFile) {
	d.mu.Lock()
	d.releaseLocked(f)
	d.mu.Unlock()
}

func (d *disk) releaseLocked(f *diskFile) {
	f.users--
	if f.done {
		d.closeLocked(f)
	}
}

// closeLocked closes a file that nobody uses; else the last one who does will.
func (d *disk) closeLocked(f *diskFile) {
	if f.file != nil && f.users == 0 {
		f.file.Close()
		f.file = nil
		d.open = slices.DeleteFunc(d.open, func(o *diskFile) bool { return o == f })
	}
}

func (d *disk) folder(name string) error {
	if name == "." || name == "" || d.folders[name] {
		return nil
	}
	if err := d.root.MkdirAll(name, 0o777); err != nil {
		if other := d.noFolder(name); other != "" {
			return refusal.Newf(refusal.Conflict, "What comes has a folder where there is something else already: %q.", other).Because(ErrNoFolder)
		}
		return diskError(err)
	}
	d.folders[name] = true
	return nil
}

// ErrNoFolder is the cause when the receiver's user has something else where a folder should be.
var ErrNoFolder = errors.New("something else is where a folder should be")

// noFolder is what stands where a folder should, on the way to one: a file, or a link that leads to no folder, or out of ours.
func (d *disk) noFolder(name string) string {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if _, err := d.root.Lstat(name[:i]); err != nil {
			return ""
		}
		if info, err := d.root.Stat(name[:i]); err != nil || !info.IsDir() {
			return name[:i]
		}
	}
	return ""
}

// diskError says what the receiver's disk does not do. A refusal, and no error, stay what they are.
func diskError(err error) error {
	var no *refusal.Refusal
	if err == nil || errors.As(err, &no) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return refusal.New(refusal.DiskFull).Because(err)
	}
	return refusal.Newf(refusal.FolderUnwritable, "The folder cannot be written to: %v.", err).Because(err)
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
	d.releaseLocked(f)
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
	var file *os.File
	err := fs.ErrNotExist
	switch {
	case f == nil || !f.begun && !f.done:
	case f.done:
		if file, err = d.root.Open(f.name); err == nil {
			defer file.Close()
		}
	default:
		if err = d.acquireLocked(f); err == nil {
			defer d.release(f)
			file = f.file
		}
	}
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := file.ReadAt(buf, int64(b.index)*BlockSize)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// writeJournalLocked needs d.mu.
func (d *disk) writeJournalLocked() error {
	if d.broken == nil {
		_, d.broken = d.journal.Write(d.pending)
	}
	d.pending = d.pending[:0]
	return d.broken
}

// flush makes what was written survive a crash of the machine: content first, then the journal that calls a file final.
func (d *disk) flush() error {
	d.flushMu.Lock()
	defer d.flushMu.Unlock()
	return d.flushLocked()
}

func (d *disk) flushLocked() error {
	d.mu.Lock()
	if d.broken != nil {
		defer d.mu.Unlock()
		return diskError(d.broken)
	}
	dirty, finals := d.dirty, d.finals
	if d.unsaved == 0 && len(d.pending) == 0 && len(finals) == 0 {
		d.mu.Unlock()
		return nil
	}
	d.dirty, d.finals, d.unsaved = map[*diskFile]bool{}, nil, 0
	var used []*diskFile
	var files []*os.File
	for f := range dirty {
		if f.file != nil {
			f.users++ // it stays open
			used, files = append(used, f), append(files, f.file)
		}
	}
	d.mu.Unlock()
	err := syncAll(files)
	d.mu.Lock()
	for _, f := range used {
		d.releaseLocked(f)
	}
	if err == nil {
		d.pending = append(d.pending, finals...)
		err = d.writeJournalLocked()
	}
	d.mu.Unlock()
	if err == nil {
		err = d.journal.Sync()
	}
	if err != nil {
		d.mu.Lock()
		d.broken = err
		d.mu.Unlock()
	}
	return diskError(err)
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
		if err := d.root.Chtimes(f.name+PartSuffix, at, at); err != nil {
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
		dir, _ := path.Split(f.name)
		f.name = d.names.unique(strings.TrimSuffix(dir, "/"), path.Base(f.entry.Path))
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

// nameLocked gives a file its final name, or the next one that is free: what has come there meanwhile is not ours.
func (d *disk) nameLocked(f *diskFile) error {
	if f.done {
		return nil
	}
	d.closeLocked(f)
	for {
		err := d.move(f.name+PartSuffix, f.name)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return diskError(err)
		}
		former := f.name
		d.freeName(f)
		if err := errors.Join(d.root.Rename(former+PartSuffix, f.name+PartSuffix), d.identify(f)); err != nil {
			return diskError(err)
		}
	}
	f.done = true
	d.ours[f.name] = true
	return nil
}

// move renames, and replaces nothing that this transfer did not make.
func (d *disk) move(from, to string) error {
	if d.ours[to] {
		return d.root.Rename(from, to)
	}
	err := d.root.Link(from, to)
	if err == nil {
		return d.root.Remove(from)
	}
	there, missing := d.root.Lstat(to)
	if missing == nil {
		// A crash may have come between the link and the removal.
		if partial, err := d.root.Lstat(from); err == nil && os.SameFile(partial, there) {
			return d.root.Remove(from)
		}
		return fs.ErrExist
	}
	return d.root.Rename(from, to) // a file system without hard links
}

// discard removes what is there of a file that will not come.
func (d *disk) discard(i uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[i]
	if f == nil || f.done || !f.begun || f.users > 0 {
		return
	}
	d.closeLocked(f)
	delete(d.dirty, f)
	d.root.Remove(f.name + PartSuffix)
}

// path is where a file is kept, below the folder.
func (d *disk) path(i uint32) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[i].name
}

// complete removes the journal: everything is there, and a crash of the machine does not take the names away.
func (d *disk) complete() error {
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.syncFolders(); err != nil {
		return diskError(err)
	}
	return diskError(d.root.Remove(d.name))
}

// syncFolders makes the names of files, and of the folders that they are in, survive a crash.
func (d *disk) syncFolders() error {
	if runtime.GOOS == "windows" { // has no such thing
		return nil
	}
	folders := map[string]bool{".": true}
	d.mu.Lock()
	for _, f := range d.files {
		for dir := path.Dir(f.name); f.done && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	d.mu.Unlock()
	for dir := range folders {
		f, err := d.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
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
