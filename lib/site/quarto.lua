-- What Quarto's own filters leave to do, run before them: a labelled figure drawn for light and for dark.
--
-- A cell with `label: fig-x`, `fig-cap` and `renderings: [light, dark]` displays two images. Quarto would number them as two
-- figures and give the caption to the first. Here they become one float, the code above it, other outputs below it:
--
--   ::: {#cell-fig-x .cell}        ::: {#fig-x}                         ::: {.cell}
--   code                           ::: {.cell renderings=…} images :::  the line that says which run drew it
--   :::                            caption                              :::
--                                  :::

local function image_of(block)
  local found = nil
  pandoc.walk_block(block, {
    Image = function(image)
      found = found or image
    end,
  })
  return found
end

local function is_display(block)
  return block.t == "Div" and block.classes:includes("cell-output-display")
end

-- A cell without a label gets its id as one. A line of provenance below fig-x, in a cell with the id fig-x-provenance, is no
-- figure and takes no number.
local function only_named_like_a_float(cell)
  if not (cell.identifier:match("^fig%-") or cell.identifier:match("^tbl%-")) then
    return false
  end
  if cell.attributes["tbl-cap"] or cell.attributes["fig-cap"] then
    return false
  end
  local drawn = false
  local function yes()
    drawn = true
  end
  pandoc.walk_block(cell, {
    Image = yes,
    Table = yes,
    Figure = yes,
    RawBlock = function(raw)
      drawn = drawn or raw.text:match("<table") or raw.text:match("<svg") or raw.text:match("<img")
    end,
  })
  return not drawn
end

function Div(cell)
  if not cell.classes:includes("cell") then
    return nil
  end
  if only_named_like_a_float(cell) then
    cell.identifier = "cell-" .. cell.identifier
    return cell
  end
  if not cell.attributes["renderings"] then
    return nil
  end
  local label = cell.identifier
  if not label:match("^fig%-") then
    return nil
  end
  local code, pair, rest, caption = pandoc.Blocks({}), pandoc.Blocks({}), pandoc.Blocks({}), nil
  for _, block in ipairs(cell.content) do
    local image = is_display(block) and image_of(block) or nil
    if image then
      -- Pandoc makes a Figure of an image with a caption; the caption goes under both images.
      for _, inner in ipairs(block.content) do
        if inner.t == "Figure" and #inner.caption.long > 0 then
          caption = caption or inner.caption.long[1].content
        end
      end
      if not caption and #image.caption > 0 then
        caption = image.caption
      end
      image.identifier = ""
      image.caption = pandoc.Inlines({})
      block.identifier = ""
      block.content = pandoc.Blocks({ pandoc.Para({ image }) })
      pair:insert(block)
    elseif block.t == "CodeBlock" then
      code:insert(block)
    else
      -- Quarto numbers outputs under the label (fig-x-3), and what is no picture would be counted as a figure.
      if block.t == "Div" and block.identifier:match("^fig%-") then
        block.identifier = ""
      end
      rest:insert(block)
    end
  end
  if #pair == 0 then
    return nil
  end
  local drawn = pandoc.Div(pair, pandoc.Attr("", { "cell" }, { renderings = cell.attributes["renderings"] }))
  local float = pandoc.Div({ drawn }, pandoc.Attr(label))
  if caption then
    float.content:insert(pandoc.Para(caption))
  end
  local out = pandoc.Blocks({})
  if #code > 0 then
    out:insert(pandoc.Div(code, pandoc.Attr("cell-" .. label, { "cell" })))
  end
  out:insert(float)
  if #rest > 0 then
    out:insert(pandoc.Div(rest, pandoc.Attr("", { "cell" })))
  end
  return out
end

-- A part that `pre-render` made, in the place of `[]{.generated part="summary"}`. An include would be read before pre-render.
function Para(para)
  local span = para.content[1]
  if #para.content ~= 1 or span.t ~= "Span" or not span.classes:includes("generated") then
    return nil
  end
  local folder = quarto and quarto.project.directory or "."
  local path = pandoc.path.join({ folder, ".build/generated", span.attributes["part"] .. ".md" })
  local file = assert(io.open(path, "r"))
  local text = file:read("a")
  file:close()
  return pandoc.read(text, "markdown").blocks
end
