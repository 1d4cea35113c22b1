package driver

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestScrubReportIsCleanOnlyWhenEverythingWasReadBackAsZero(t *testing.T) {
	good := ScrubReport{MemoryBytes: 4096, ReadBytes: 4096, Sealed: true, Finished: time.Unix(1, 0)}
	if err := good.Clean(); err != nil {
		t.Errorf("a good report: %v", err)
	}
	for name, spoil := range map[string]func(*ScrubReport){
		"no memory at all":            func(r *ScrubReport) { r.MemoryBytes, r.ReadBytes = 0, 0 },
		"a byte that is not zero":     func(r *ScrubReport) { r.NonZero = 1 },
		"memory that was not read":    func(r *ScrubReport) { r.ReadBytes-- },
		"memory that was not sealed":  func(r *ScrubReport) { r.Sealed = false },
		"a scrub that has not ended":  func(r *ScrubReport) { r.Finished = time.Time{} },
		"more read than there was of": func(r *ScrubReport) { r.ReadBytes++ },
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			spoil(&r)
			if err := r.Clean(); !errors.Is(err, ErrUnclean) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestPermanentErrorIsFoundThroughWrapping(t *testing.T) {
	cause := errors.New("no such image")
	err := fmt.Errorf("create volume: %w", Permanent("ImageUnusable", cause))
	if p := AsPermanent(err); p == nil || p.Code != "ImageUnusable" || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if AsPermanent(ErrUnavailable) != nil || AsPermanent(nil) != nil {
		t.Error("what is not permanent is")
	}
}
