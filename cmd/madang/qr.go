package main

import (
	"strings"

	qrcode "github.com/skip2/go-qrcode"
)

// terminalQR draws a link with half blocks: two modules in a character, dark ones black. Where there are colors it sets both, so that it is black on white
// on a dark terminal too; in a file or pipe it has the colors of who shows it. The quiet zone of four modules belongs to the code (ISO/IEC 18004 §9.1).
func terminalQR(link string, colors bool) (drawing string, columns int, err error) {
	q, err := qrcode.New(link, qrcode.Low)
	if err != nil {
		return "", 0, err
	}
	modules := q.Bitmap() // with the quiet zone
	var b strings.Builder
	for y := 0; y < len(modules); y += 2 {
		if colors {
			b.WriteString("\x1b[30;107m")
		}
		for x := range modules[y] {
			above, below := modules[y][x], y+1 < len(modules) && modules[y+1][x]
			switch {
			case above && below:
				b.WriteRune('█')
			case above:
				b.WriteRune('▀')
			case below:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		if colors {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String(), len(modules), nil
}
