package playrtc

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// A status is a code of PlayRTC's with its name, which is what its SDKs and pages know.
type status struct{ code, name string }

var success = status{"20001", "SUCCESS"}

// statuses are PlayRTC's words for our codes. Others are formed like them: the HTTP status, 01, and our code in capitals.
var statuses = map[refusal.Code]status{
	refusal.Malformed:          {"40001", "MESSAGE_SYNTAX_ERROR"},
	refusal.InvalidField:       {"40001", "MESSAGE_SYNTAX_ERROR"},
	refusal.MessageTooBig:      {"40001", "MESSAGE_SYNTAX_ERROR"},
	refusal.CredentialsMissing: {"40101", "PROJECTID_INVALID"},
	refusal.KeyUnknown:         {"40101", "PROJECTID_INVALID"},
	refusal.KeyWrongKind:       {"40101", "PROJECTID_INVALID"},
	refusal.KeyDevelopmentOnly: {"40101", "PROJECTID_INVALID"},
	refusal.KeyNeedsToken:      {"40101", "PROJECTID_INVALID"},
	refusal.OriginForbidden:    {"40101", "PROJECTID_INVALID"},
	refusal.AddressForbidden:   {"40101", "PROJECTID_INVALID"},
	refusal.ProjectOff:         {"40101", "PROJECTID_INVALID"},
	refusal.PlayrtcOff:         {"40101", "PROJECTID_INVALID"},
	refusal.TokenMalformed:     {"40102", "TOKEN_INVALID"}, // unknown, or used already
	refusal.TokenExpired:       {"40103", "TOKEN_EXPIRED"},
	refusal.TokenChannel:       {"40104", "CHANNELID_INVALID"},
	refusal.ChannelNotFound:    {"40104", "CHANNELID_INVALID"},
	refusal.ChannelClosed:      {"40104", "CHANNELID_INVALID"},
	refusal.PeerNotFound:       {"40105", "PEERID_INVALID"},
	refusal.NotFound:           {"40401", "UNKNOWN_URI"},
}

func statusOf(r *refusal.Refusal) status {
	if s, ok := statuses[r.Code]; ok {
		return s
	}
	return status{strconv.Itoa(r.Status()) + "01", strings.ToUpper(string(r.Code))}
}

// problem answers with PlayRTC's form of an error, and ours beside it.
func (s *Server) problem(w http.ResponseWriter, err error) {
	r := refusal.From(err)
	if r.Code == refusal.Internal {
		s.cfg.Logger.Error("request failed", "err", err)
	}
	st := statusOf(r)
	var body struct {
		Error struct {
			Code    string       `json:"code"`
			Message string       `json:"message"`
			Reason  refusal.Code `json:"reason"`
			Text    string       `json:"text"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message, body.Error.Reason, body.Error.Text = st.code, st.name, r.Code, r.Message
	if r.RetryAfter > 0 {
		// RFC 9110 §10.2.3: whole seconds, so that less than one is one.
		w.Header().Set("Retry-After", strconv.FormatInt(int64((r.RetryAfter+time.Second-1)/time.Second), 10))
	}
	httpStatus := r.Status()
	if httpStatus < 400 {
		httpStatus = http.StatusConflict
	}
	s.answer(w, httpStatus, body)
}

func (s *Server) answer(w http.ResponseWriter, httpStatus int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		s.cfg.Logger.Error("encode answer", "err", err)
		httpStatus, b = http.StatusInternalServerError, []byte(`{"error":{"code":"50001","message":"INTERNAL"}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(httpStatus)
	w.Write(b)
}
