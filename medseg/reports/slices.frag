#version 300 es
// Slices in which the outlines keep their width on the screen, whatever the size of a voxel. Four values that NiiVue
// sets serve it: overlayAlphaShader is the map's opacity, drawOpacity that of the fill, drawRimOpacity the width of the
// outlines in pixels, 0 for none. NiiVue looks for the names of its values itself: one declaration a line.
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D overlay;
uniform highp sampler3D drawing;
uniform highp sampler2D colormap;
uniform float overlays;
uniform float overlayAlphaShader;
uniform float drawOpacity;
uniform float drawRimOpacity;
in vec3 texPos;
out vec4 color;
vec4 look(float index) {
  float rows = float(textureSize(colormap, 0).y);
  return texture(colormap, vec2((index * 255.0 + 0.5) / 256.0, (rows - 0.5) / rows));
}
float at(vec3 place) {
  if (any(lessThan(place, vec3(0.0))) || any(greaterThan(place, vec3(1.0)))) return 0.0;
  float index = texture(drawing, place).r;
  return look(index).a > 0.0 ? index : 0.0;
}
void main() {
  color = vec4(texture(volume, texPos).rgb, 1.0);
  vec4 map = texture(overlay, texPos);
  if (overlays > 0.0 && map.a > 0.0) {
    float part = clamp(map.a / max(overlayAlphaShader, 0.001), 0.001, 1.0);
    color.rgb = mix(color.rgb, min(map.rgb / part, 1.0), map.a);
  }
  vec3 across = dFdx(texPos) * drawRimOpacity;
  vec3 up = dFdy(texPos) * drawRimOpacity;
  float here = at(texPos);
  if (here == 0.0) return;
  vec3 hue = look(here).rgb;
  color.rgb = mix(color.rgb, hue, drawOpacity);
  if (drawRimOpacity <= 0.0) return;
  vec3 slant = 0.7071 * (across + up), other = 0.7071 * (across - up);
  if (at(texPos + across) != here || at(texPos - across) != here || at(texPos + up) != here || at(texPos - up) != here ||
      at(texPos + slant) != here || at(texPos - slant) != here || at(texPos + other) != here || at(texPos - other) != here)
    color.rgb = hue;
}
