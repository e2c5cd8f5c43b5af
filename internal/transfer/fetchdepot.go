package transfer

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

// A depot is a lane to the server that keeps what a sender has left there (docs/transfer.md §15). It is asked like the sender, for what it says that it has; and the sender, while it is there
// too, is asked for the rest first.

// addDepot: hello has been said on both sides.
func (f *fetcher) addDepot(now time.Time, id int, end string) {
	f.lanes[id] = &fetchLane{id: id, end: end, sender: true, depot: true, owed: map[block]int{}, window: windowFirst, measured: now, heard: now, remote: map[uint32]*bitmap{}}
	if f.chosen {
		f.send(id, message{Type: typeAccept})
	}
	if len(f.senders()) == 0 {
		f.askRoots(id)
	}
}

// senders are the lanes to the sender, in the order of their ids.
func (f *fetcher) senders() []*fetchLane {
	return slices.DeleteFunc(f.sources(), func(l *fetchLane) bool { return l.depot })
}

// sources are the lanes where a sender's answers come from: those to the sender first.
func (f *fetcher) sources() (list []*fetchLane) {
	for _, depot := range []bool{false, true} {
		for _, id := range slices.Sorted(maps.Keys(f.lanes)) {
			if l := f.lanes[id]; l.sender && l.depot == depot {
				list = append(list, l)
			}
		}
	}
	return list
}

// askSenderInstead takes back what was asked of a depot and its sender can answer sooner: roots of files that are not all there.
func (f *fetcher) askSenderInstead() {
	for _, file := range f.files {
		if l := f.lanes[file.rootLane]; l != nil && l.depot {
			file.rootLane = 0
		}
	}
	if l := f.lanes[f.rootLane]; l != nil && l.depot {
		f.root, f.rootLane = rootNone, 0
	}
}

func (f *fetcher) depotHas(l *fetchLane, ranges []Range) {
	for _, r := range ranges {
		if int(r.File) >= len(f.files) || uint64(r.First)+uint64(r.Count) > uint64(f.files[r.File].blocks()) {
			continue
		}
		l.noteRemote(r)
		f.stockLane(l, r.File)
	}
}

// nextInDepot is the next block that a depot has and that is missing.
func (f *fetcher) nextInDepot(l *fetchLane) (block, bool) {
	for len(l.ready) > 0 {
		n := l.ready[0]
		file := f.files[n]
		if file.state == fileFetch {
			if i, ok := both(*l.remote[n], file.have, file.asked); ok && i < file.blocks() {
				return block{n, i}, true
			}
		}
		l.ready = l.ready[1:]
		l.queued.clear(n)
	}
	return block{}, false
}

// both finds the first index that is in one bitmap and in none of the others.
func both(in bitmap, not ...bitmap) (uint32, bool) {
	for w, word := range in {
		for _, b := range not {
			if w < len(b) {
				word &^= b[w]
			}
		}
		if word != 0 {
			return uint32(w*64 + bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// inDepots are the blocks of a file for which a depot will be asked.
func (f *fetcher) inDepots(n uint32) bitmap {
	for _, l := range f.lanes {
		if l.depot && l.accepted && l.remote[n] != nil {
			return *l.remote[n] // there is one at most
		}
	}
	return nil
}

// nextBeyondDepots is the next block that is missing and that no depot has, if there is a depot.
func (f *fetcher) nextBeyondDepots() (block, bool) {
	if f.covered || len(f.sources()) == len(f.senders()) {
		return block{}, false
	}
	for n := f.first; n < len(f.files); n++ {
		if file := f.files[n]; file.state == fileFetch {
			if i, ok := free(file.cursor, file.blocks(), file.have, file.asked, f.inDepots(uint32(n))); ok {
				return block{uint32(n), i}, true
			}
		}
	}
	f.covered = true
	return block{}, false
}
