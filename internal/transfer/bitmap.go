package transfer

import "math/bits"

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

// fill sets count bits from first on, a word at a time: another end says how many there are.
func (b *bitmap) fill(first, count uint32) {
	if count == 0 {
		return
	}
	last := first + count - 1
	from, to := int(first/64), int(last/64)
	if to >= len(*b) {
		*b = append(*b, make([]uint64, to+1-len(*b))...)
	}
	for w := from; w <= to; w++ {
		word := ^uint64(0)
		if w == from {
			word &^= 1<<(first%64) - 1
		}
		if w == to {
			word &= ^uint64(0) >> (63 - last%64)
		}
		(*b)[w] |= word
	}
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

// add sets the bits of another one too.
func (b *bitmap) add(o bitmap) {
	if len(o) > len(*b) {
		*b = append(*b, make([]uint64, len(o)-len(*b))...)
	}
	for w, word := range o {
		(*b)[w] |= word
	}
}

// free finds the first index from one on and before end that is in none of the bitmaps.
func free(from, end uint32, taken ...bitmap) (uint32, bool) {
	for from < end {
		w := int(from / 64)
		var busy uint64
		for _, b := range taken {
			if w < len(b) {
				busy |= b[w]
			}
		}
		if at := uint64(w)*64 + uint64(bits.TrailingZeros64(^(busy | (1<<(from%64) - 1)))); at < min(uint64(end), uint64(w+1)*64) {
			return uint32(at), true
		}
		if w+1 > int((end-1)/64) {
			break
		}
		from = uint32(w+1) * 64
	}
	return 0, false
}
