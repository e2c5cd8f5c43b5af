package playrtc

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/throttle"
)

const (
	maxBody     = 64 << 10
	maxName     = 256 // bytes of a channel's or a user's name
	maxEnv      = 2 << 10
	bodyTimeout = 20 * time.Second
	defaultKind = "webrtc"
	// relayLifetime is what clients ask for: 86,000 s. They renew while they are alone in a channel.
	relayLifetime = 86000 * time.Second
)

// A text is a string, or a number where a page was careless.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*t = text(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*t = text(n)
	return nil
}

// An order is the body of R1 and R2 (create and connect).
type order struct {
	Channel struct {
		Name text `json:"channelName"`
		Kind text `json:"channelType"`
	} `json:"channel"`
	Peer struct {
		UID      text `json:"uid"`
		UserName text `json:"userName"`
	} `json:"peer"`
	Env json.RawMessage `json:"env"`
}

// serveREST serves one request. path are the segments below Path.
func (s *Server) serveREST(w http.ResponseWriter, r *http.Request, path []string) {
	network := throttle.Network(s.cfg.ClientAddress(r))
	if refused := s.mayAsk(network); refused != nil {
		s.problem(w, refused)
		return
	}
	if path[0] == "nag" {
		s.serveNag(w, r, path[1:])
		return
	}
	if len(path) == 1 && path[0] == "stat" {
		if s.method(w, r, http.MethodPut) {
			// Nobody reads the client's log; it has to be taken, or a proxy might see an error in its end.
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
			s.answer(w, http.StatusOK, struct{}{})
		}
		return
	}
	handler, channelID := s.route(path)
	if handler == nil {
		s.problem(w, refusal.New(refusal.NotFound))
		return
	}
	c := credentials(r)
	c.Address = s.cfg.ClientAddress(r)
	if channelID != "" {
		if !auth.ValidChannelName(channelID) {
			s.problem(w, refusal.New(refusal.ChannelNotFound))
			return
		}
		c.Channel = channelID
	}
	p, d, err := s.cfg.Look(r.Context(), c)
	if err == nil && !p.PlayRTC {
		err = refusal.New(refusal.PlayrtcOff)
	}
	if err != nil {
		s.problem(w, err)
		return
	}
	handler(w, &request{Request: r, credentials: c, project: p, definition: d, path: path, key: channel.Key{Project: p.ID, Channel: channelID}})
}

// A request is one that a key has been found good for.
type request struct {
	*http.Request
	credentials auth.Credentials
	project     auth.Project
	definition  *auth.Definition
	key         channel.Key
	path        []string
}

// route finds who serves a path. The numbers are those of docs/playrtc.md.
func (s *Server) route(path []string) (h func(w http.ResponseWriter, r *request), channelID string) {
	switch {
	case len(path) == 1 && path[0] == "channels":
		return s.list, "" // R3
	case len(path) == 2 && path[0] == "channels" && path[1] == "search":
		return s.search, "" // R7
	case len(path) == 2 && path[0] == "channels" && path[1] == "channel":
		return s.create, "" // R1
	case len(path) == 3 && path[0] == "signal" && path[1] == "user":
		return s.renewNag, "" // R9
	case len(path) < 3 || path[0] != "channels" || path[1] != "channel" || path[2] == "":
		return nil, ""
	case len(path) == 3:
		return s.channel, path[2] // R2, R4
	case len(path) == 4 && path[3] == "peers":
		return s.peers, path[2] // R5
	case len(path) == 6 && path[3] == "peers" && path[4] == "peer":
		return s.peer, path[2] // R6
	}
	return nil, ""
}

// method reports whether the request has the method, and otherwise answers.
func (s *Server) method(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method+", OPTIONS")
	s.problem(w, refusal.New(refusal.MethodNotAllowed))
	return false
}

// credentials reads the project's key, and the page's origin: of native applications, which have none, that of the Referer that they were told to send.
func credentials(r *http.Request) auth.Credentials {
	key := r.Header.Get("TDCProjectKey")
	if key == "" {
		key = r.Header.Get("TDCProjectId")
	}
	c := auth.Credentials{Origin: r.Header.Get("Origin")}
	if auth.IsServerKey(key) {
		c.Server = key
	} else {
		c.Key = key
	}
	if c.Origin == "" {
		if u, err := url.Parse(r.Header.Get("Referer")); err == nil && u.Scheme != "" && u.Host != "" {
			c.Origin = u.Scheme + "://" + u.Host
		}
	}
	return c
}

// create is R1.
func (s *Server) create(w http.ResponseWriter, r *request) {
	if !s.method(w, r.Request, http.MethodPost) {
		return
	}
	if !r.project.OpenChannels {
		s.problem(w, refusal.Newf(refusal.ChannelNotFound, "The project admits peers to defined channels only."))
		return
	}
	o, err := readOrder(w, r.Request)
	if err != nil {
		s.problem(w, err)
		return
	}
	r.key.Channel = newChannelID()
	s.give(w, r, o, true)
}

// channel is R2 and R4.
func (s *Server) channel(w http.ResponseWriter, r *request) {
	view, listed := s.room(r.key)
	snapshot, err := s.cfg.Channels.Inspect(r.Context(), r.key)
	missing := errors.Is(err, refusal.New(refusal.ChannelNotFound))
	if err != nil && !missing {
		s.problem(w, err)
		return
	}
	known := listed || !missing && len(snapshot.Members)+len(snapshot.Waiting) > 0 || r.definition != nil
	switch r.Method {
	case http.MethodGet:
		if !known {
			s.answer(w, http.StatusOK, channelBody{ChannelID: r.key.Channel, Status: "nothing", Peers: []peerBody{}})
			return
		}
		s.answer(w, http.StatusOK, s.channelBody(view, snapshot.Members))
	case http.MethodPut:
		if !known {
			s.problem(w, refusal.New(refusal.ChannelNotFound))
			return
		}
		o, err := readOrder(w, r.Request)
		if err != nil {
			s.problem(w, err)
			return
		}
		s.give(w, r, o, false)
	default:
		w.Header().Set("Allow", "GET, PUT, OPTIONS")
		s.problem(w, refusal.New(refusal.MethodNotAllowed))
	}
}

func readOrder(w http.ResponseWriter, r *http.Request) (o order, err error) {
	// Not every writer can: those of HTTP/2 bound it by flow control and idle time.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return o, refusal.Newf(refusal.Malformed, "The body could not be read, or is larger than %d KiB.", maxBody>>10).Because(err)
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return o, refusal.Newf(refusal.Malformed, "The body is not a JSON object of the expected form.").Because(err)
	}
	for _, f := range []struct {
		name  string
		value text
	}{{"channel.channelName", o.Channel.Name}, {"channel.channelType", o.Channel.Kind}, {"peer.userName", o.Peer.UserName}, {"peer.uid", o.Peer.UID}} {
		if len(f.value) > maxName {
			return o, refusal.Newf(refusal.InvalidField, "%s is at most %d bytes long.", f.name, maxName).With("field", f.name)
		}
	}
	if len(o.Env) > maxEnv {
		return o, refusal.Newf(refusal.InvalidField, "env is at most %d bytes long.", maxEnv).With("field", "env")
	}
	return o, nil
}

type rangeBody struct {
	Rating int `json:"rating"`
	From   int `json:"fromFractionLost"`
	To     int `json:"toFractionLost"`
}

// ranges makes a table of ratings, 1 is best, that covers every loss: the end of one range is the beginning of the next, since losses are not integers.
func ranges(ends ...int) (table []rangeBody) {
	from := 0
	for i, to := range append(ends, 9999999) {
		table = append(table, rangeBody{i + 1, from, to})
		from = to
	}
	return table
}

var (
	audioRanges = ranges(51, 151, 251, 351)
	videoRanges = ranges(41, 56, 71, 91)
)

// A tokenBody answers R1 and R2.
type tokenBody struct {
	ChannelID   string `json:"channelId"`
	ChannelName string `json:"channelName"`
	ChannelType string `json:"channelType"`
	Peer        struct {
		UID string `json:"uid"`
	} `json:"peer"`
	Token struct {
		TokenID string `json:"tokenId"`
	} `json:"token"`
	Configuration struct {
		ChannelURL   string `json:"channelUrl"`
		NagRestURL   string `json:"nagRestUrl"`
		FractionLost struct {
			Audio []rangeBody `json:"audio"`
			Video []rangeBody `json:"video"`
		} `json:"fractionLost"`
	} `json:"configuration"`
	TURN turnBody `json:"turn"`
	Nag  struct {
		Data nagBody `json:"data"`
	} `json:"nag"`
	Madang *madangBody `json:"madang,omitempty"`
}

type turnBody struct {
	Server struct {
		IP       string `json:"turnIp"`
		Port     string `json:"turnPort"` // a string: clients concatenate it
		ID       string `json:"turnId"`
		Password string `json:"turnPw"`
	} `json:"turnserver"`
}

type nagBody struct {
	AuthToken   string `json:"authToken"`
	AuthExpires string `json:"authExpires"`
	UserName    string `json:"userName"`
}

// A madangBody is what our own SDK needs to join over the native protocol, as the peer that the token names. Others ignore it.
type madangBody struct {
	Channel  string `json:"channel"`
	Instance string `json:"instance"`
	Key      string `json:"key"`
	Signal   string `json:"signal"`
}

// give issues a token and answers with it.
func (s *Server) give(w http.ResponseWriter, r *request, o order, create bool) {
	t := &ticket{credentials: r.credentials, uid: string(o.Peer.UID), userName: string(o.Peer.UserName), env: o.Env}
	kind := string(o.Channel.Kind)
	if kind == "" {
		kind = defaultKind
	}
	if err := s.issue(r.key, kind, string(o.Channel.Name), create, t); err != nil {
		s.problem(w, err)
		return
	}
	turn, err := s.turn(t)
	if err != nil {
		s.problem(w, err)
		return
	}
	view, _ := s.room(r.key)
	base := s.cfg.BaseURL(r.Request)
	socket := "ws" + strings.TrimPrefix(base, "http") // https becomes wss
	body := tokenBody{ChannelID: r.key.Channel, ChannelName: view.name, ChannelType: view.kind, TURN: turn}
	body.Peer.UID = t.uid
	body.Token.TokenID = t.token
	body.Configuration.ChannelURL = socket + Path + "/channel"
	body.Configuration.NagRestURL = base + Path + "/nag"
	body.Configuration.FractionLost.Audio = audioRanges
	body.Configuration.FractionLost.Video = videoRanges
	body.Nag.Data = nag(t)
	if t.credentials.Key != "" {
		body.Madang = &madangBody{Channel: r.key.Channel, Instance: t.instance, Key: t.credentials.Key, Signal: base}
	}
	s.answer(w, http.StatusOK, body)
}

func nag(t *ticket) nagBody {
	return nagBody{AuthToken: t.secret, AuthExpires: strconv.FormatInt(int64(relayLifetime/time.Second), 10), UserName: t.token}
}

func (s *Server) turn(t *ticket) (b turnBody, err error) {
	turn, err := s.cfg.TURN(t.key.Project, t.peer, relayLifetime)
	if err != nil {
		return b, err
	}
	b.Server.IP = turn.Host
	if strings.Contains(turn.Host, ":") {
		b.Server.IP = "[" + turn.Host + "]" // clients write turn:IP:PORT
	}
	b.Server.Port = strconv.Itoa(int(turn.Port))
	b.Server.ID, b.Server.Password = turn.Username, turn.Password
	return b, nil
}

type channelBody struct {
	ChannelID   string     `json:"channelId"`
	ChannelName string     `json:"channelName"`
	ChannelType string     `json:"channelType,omitempty"`
	Status      string     `json:"status"`
	Peers       []peerBody `json:"peers"`
}

type peerBody struct {
	ID       string          `json:"id"`
	UID      string          `json:"uid"`
	UserName string          `json:"userName"`
	Env      json.RawMessage `json:"env,omitempty"`
}

func (s *Server) channelBody(v roomView, members []channel.PeerState) channelBody {
	b := channelBody{ChannelID: v.key.Channel, ChannelName: v.name, ChannelType: v.kind, Status: "live", Peers: []peerBody{}}
	for _, m := range members {
		b.Peers = append(b.Peers, s.peerBody(m.Peer))
	}
	return b
}

// peerBody shows a member: the env of its REST call, or what a native one has said.
func (s *Server) peerBody(p *channel.Peer) peerBody {
	told := readInfo(p.Info)
	b := peerBody{ID: Token(p.ID), UID: p.UID, UserName: told.UserName, Env: told.Env}
	if b.UserName == "" {
		b.UserName = p.Name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tickets[b.ID]; t != nil && t.peer == p.ID && t.env != nil {
		b.Env = t.env
	}
	return b
}

// list is R3.
func (s *Server) list(w http.ResponseWriter, r *request) {
	if s.method(w, r.Request, http.MethodGet) {
		s.answer(w, http.StatusOK, channelList{s.bodies(r, s.roomsOf(r.project.ID, func(roomView) bool { return true }))})
	}
}

type channelList struct {
	Channels []channelBody `json:"channels"`
}

func (s *Server) bodies(r *request, rooms []roomView) []channelBody {
	live := map[channel.Key]bool{}
	for _, c := range s.cfg.Channels.List(r.project.ID) {
		live[c.Key] = c.Peers > 0
	}
	bodies := []channelBody{}
	for _, v := range rooms {
		var members []channel.PeerState
		if live[v.key] {
			// An error: it has emptied meanwhile.
			if snapshot, err := s.cfg.Channels.Inspect(r.Context(), v.key); err == nil {
				members = snapshot.Members
			}
		}
		bodies = append(bodies, s.channelBody(v, members))
	}
	return bodies
}

// search is R7. Web clients write f and q as they are, native ones escape them and wrap a bare list themselves.
func (s *Server) search(w http.ResponseWriter, r *request) {
	if !s.method(w, r.Request, http.MethodGet) {
		return
	}
	native := r.Header.Get("TDCProjectId") != ""
	field, query := searchTerms(r.URL.RawQuery, native)
	byID := strings.Contains(strings.ToLower(field), "id")
	query = strings.ToLower(query)
	found := s.bodies(r, s.roomsOf(r.project.ID, func(v roomView) bool {
		if byID {
			return strings.HasPrefix(strings.ToLower(v.key.Channel), query)
		}
		return strings.Contains(strings.ToLower(v.name), query)
	}))
	if native {
		s.answer(w, http.StatusOK, found)
	} else {
		s.answer(w, http.StatusOK, channelList{found})
	}
}

// searchTerms reads "f=…&q=…". q comes last and may hold anything, & and stray % included.
func searchTerms(raw string, native bool) (field, query string) {
	raw = "&" + raw
	if i := strings.Index(raw, "&q="); i >= 0 {
		raw, query = raw[:i], raw[i+len("&q="):]
	}
	if i := strings.Index(raw, "&f="); i >= 0 {
		field, _, _ = strings.Cut(raw[i+len("&f="):], "&")
	}
	unescape := url.PathUnescape
	if native {
		unescape = url.QueryUnescape
	}
	for _, term := range []*string{&field, &query} {
		if plain, err := unescape(*term); err == nil {
			*term = plain
		}
	}
	return field, query
}

// peers is R5: those whose socket is connected.
func (s *Server) peers(w http.ResponseWriter, r *request) {
	if !s.method(w, r.Request, http.MethodGet) {
		return
	}
	snapshot, err := s.cfg.Channels.Inspect(r.Context(), r.key)
	if err != nil && !errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		s.problem(w, err)
		return
	}
	body := struct {
		Peers []peerBody `json:"peers"`
	}{[]peerBody{}}
	for _, m := range snapshot.Members {
		body.Peers = append(body.Peers, s.peerBody(m.Peer))
	}
	s.answer(w, http.StatusOK, body)
}

// peer is R6. It knows a peer from its token on, before its socket is connected: pages ask for their own as soon as they have it.
func (s *Server) peer(w http.ResponseWriter, r *request) {
	if !s.method(w, r.Request, http.MethodGet) {
		return
	}
	token := r.path[5]
	if t, ok := s.ticket(r.project.ID, token); ok && t.key == r.key {
		s.answer(w, http.StatusOK, peerBody{ID: t.token, UID: t.uid, UserName: t.userName, Env: t.env})
		return
	}
	snapshot, err := s.cfg.Channels.Inspect(r.Context(), r.key)
	if err != nil && !errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		s.problem(w, err)
		return
	}
	for _, m := range snapshot.Members {
		if Token(m.Peer.ID) == token {
			s.answer(w, http.StatusOK, s.peerBody(m.Peer))
			return
		}
	}
	s.problem(w, refusal.New(refusal.PeerNotFound))
}

// renewNag is R9. The key is enough, since all that nag gives anybody has who can ask for a token.
func (s *Server) renewNag(w http.ResponseWriter, r *request) {
	if !s.method(w, r.Request, http.MethodPut) {
		return
	}
	t, ok := s.ticket(r.project.ID, r.path[2])
	if !ok {
		s.problem(w, refusal.New(refusal.PeerNotFound))
		return
	}
	s.answer(w, http.StatusOK, struct {
		Data nagBody `json:"data"`
	}{nag(&t)})
}

// serveNag serves fresh relay credentials: GET webrtcsignaling/v1/{token}/turnserver?authToken=…, without a key.
func (s *Server) serveNag(w http.ResponseWriter, r *http.Request, path []string) {
	if len(path) != 4 || path[0] != "webrtcsignaling" || path[1] != "v1" || path[3] != "turnserver" {
		s.problem(w, refusal.New(refusal.NotFound))
		return
	}
	if !s.method(w, r, http.MethodGet) {
		return
	}
	t, ok := s.ticketFor(path[2], r.URL.Query().Get("authToken"))
	if !ok {
		s.problem(w, errToken)
		return
	}
	turn, err := s.turn(&t)
	if err != nil {
		s.problem(w, err)
		return
	}
	s.answer(w, http.StatusOK, struct {
		Data turnBody `json:"data"`
	}{turn})
}
