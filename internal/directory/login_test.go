package directory

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestPasswordNeverPrintsItself(t *testing.T) {
	p := NewPassword("Correct-Horse-7")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("login", "password", p, "in", struct{ P Password }{p})
	for _, text := range []string{fmt.Sprint(p), fmt.Sprintf("%s %v %+v %#v %q %x", p, p, p, p, p, p), fmt.Sprintf("%+v", struct{ P *Password }{&p}), log.String()} {
		if strings.Contains(text, "Correct") || strings.Contains(text, "436f7272") {
			t.Errorf("printed: %s", text)
		}
	}
	if b, err := json.Marshal(p); err == nil {
		t.Errorf("marshalled: %s", b)
	}
	if p.Reveal() != "Correct-Horse-7" || p.Empty() || !NewPassword("").Empty() {
		t.Error("the password itself is lost")
	}
}
