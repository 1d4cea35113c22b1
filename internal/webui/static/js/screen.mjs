// Screen is noVNC's RFB with one thing added: the desktop may be given more pixels than the window has in CSS, so that every pixel of
// a dense display is used, or a phone shows more than a corner. noVNC itself stays as it comes from npm.

import RFB from '../vendor/novnc/core/rfb.js';
import { initLogging } from '../vendor/novnc/core/util/logging.js';

// Its log would repeat what was typed.
initLogging('none');

export default class Screen extends RFB {
  #density = 1;
  #asking = false;

  get density() { return this.#density; }

  // density is how many pixels of the desktop one CSS pixel shows.
  set density(value) {
    if (value === this.#density) return;
    this.#density = value;
    if (this.resizeSession) this._requestRemoteResize();
  }

  // These two are noVNC's own steps (core/rfb.js of the version in web/portal/package-lock.json); test/portal sees them work.
  _requestRemoteResize() {
    this.#asking = true;
    try {
      super._requestRemoteResize();
    } finally {
      this.#asking = false;
    }
  }

  _screenSize() {
    const size = super._screenSize();
    return this.#asking ? { w: Math.round(size.w * this.#density), h: Math.round(size.h * this.#density) } : size;
  }
}
