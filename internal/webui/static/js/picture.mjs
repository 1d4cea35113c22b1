// How good and how large the picture is to be.

// quality gives noVNC's qualityLevel and compressionLevel for a preference and the latency measured last, in milliseconds.
export function quality(preference, ms) {
  switch (preference) {
    case 'fast':
      return { quality: 2, compression: 6 };
    case 'best':
      return { quality: 9, compression: 2 };
  }
  // The latency includes the time that pictures take to arrive, so a narrow line shows in it.
  if (!(ms >= 0)) return { quality: 6, compression: 2 };
  if (ms < 60) return { quality: 8, compression: 2 };
  if (ms < 150) return { quality: 6, compression: 2 };
  if (ms < 300) return { quality: 4, compression: 4 };
  return { quality: 2, compression: 6 };
}

// narrow is the width in CSS pixels below which a desktop is given more pixels than that: on fewer its programs do not fit.
const narrow = 720;

// density gives how many of the desktop's pixels one CSS pixel shows; 0: the desktop keeps its size.
export function density(preference, width, ratio) {
  switch (preference) {
    case 'keep':
      return 0;
    case 'sharp':
      return ratio;
  }
  return width > 0 && width < narrow ? Math.max(1, Math.min(ratio, narrow / width)) : 1;
}
