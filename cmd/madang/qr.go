package main

import qrcode "github.com/skip2/go-qrcode"

// terminalQR draws a link with block characters.
func terminalQR(link string) (string, error) {
	q, err := qrcode.New(link, qrcode.Low)
	if err != nil {
		return "", err
	}
	return q.ToSmallString(false), nil
}
