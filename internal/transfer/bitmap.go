package transfer

// A bitmap grows as needed; bits beyond its end are clear.
type bitmap []uint64

func (b bitmap) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// set reports whether the bit was clear.
func (b *bitmap) set(i uint32) bool {
	for int(i/64) >= len(*b) {
		*b = append(*b, make([]uint64, int(i/64)+1-len(*b))...)
	}
	was := (*b)[i/64]&(1<<(i%64)) != 0
	(*b)[i/64] |= 1 << (i % 64)
	return !was
}

func (b bitmap) clear(i uint32) {
	if int(i/64) < len(b) {
		b[i/64] &^= 1 << (i % 64)
	}
}

// ranges lists the set bits of a file as ranges.
func (b bitmap) ranges(file uint32) (list []Range) {
	for i, end := uint32(0), uint32(len(b)*64); i < end; i++ {
		if !b.has(i) {
			continue
		}
		first := i
		for i < end && b.has(i) {
			i++
		}
		list = append(list, Range{file, first, i - first})
	}
	return list
}
