package transfer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/madang-rtc/madang/internal/signal"
)

// TellCommand is the name of the command with which Tell passes a link on.
const TellCommand = "madang.transfer"

// Tell passes a link to the members of a channel. It goes through the server, which can read it: for channels whose server is trusted.
func Tell(ctx context.Context, server Server, channel, link string) error {
	origin, err := server.complete(ctx)
	if err != nil {
		return err
	}
	session, err := server.join(ctx, origin, channel, roleSender, func(signal.ServerMessage) {})
	if err != nil {
		return err
	}
	defer session.Close()
	data, err := json.Marshal(map[string]string{"link": link})
	if err != nil {
		return err
	}
	if err := session.Call(ctx, &signal.Command{Name: TellCommand, Data: data}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return session.Leave(ctx)
}
