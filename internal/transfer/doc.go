// Package transfer moves files of any size between two or more ends, verified and resumable: docs/transfer.md is its protocol, and says what each word means.
//
// Its core knows no sockets, disks or clocks: a fetcher (what to ask for next, and of whom) and a server of blocks, both fed with messages and the time. Around them
// stand the disk (partial files with a journal; sources that notice when they change), the lanes (WebRTC data channels; TLS over TCP and QUIC between two programs), and the
// meeting over signaling, where the secret of the link proves who is at the other end.
//
// Send and Receive are all that commands need.
package transfer
